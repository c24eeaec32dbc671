"""Segment Anything models (SAM, SAM 2.1, MedSAM) through the extra ``sam`` (transformers)."""
