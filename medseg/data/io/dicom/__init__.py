"""DICOM images and segmentations as input."""
