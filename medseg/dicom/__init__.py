"""Label maps as DICOM objects (SEG and RTSTRUCT) that refer to the series they were made from.

Modules:
    segmentation: DICOM SEG objects.
    rtstruct: DICOM RTSTRUCT objects; ``contours`` traces the outlines of masks.
    source_series: the series that an object refers to, and attributes common to all objects.
"""

OBJECTS_FOLDER = "dicom"
"""Subfolder of an output folder that holds DICOM objects."""
