"""Settings of the inference that are chosen on out-of-fold predictions."""
