"""Published weights: registry, key mapping, loading and inflation from 2D to 3D."""
