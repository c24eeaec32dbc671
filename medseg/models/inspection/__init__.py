"""Inspection of networks: cost, receptive field, shapes and feature maps."""
