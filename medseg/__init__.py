"""medseg: train, run and evaluate segmentation networks on medical images, in 2D and 3D."""
