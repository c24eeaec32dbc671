"""Label maps as DICOM objects (SEG and RTSTRUCT) that refer to the series they were made from."""

OBJECTS_FOLDER = "dicom"
"""Subfolder of an output folder that holds DICOM objects."""
