"""Commands that segment images."""
