"""Label maps as DICOM objects that refer to the series they were made of: SEG and RTSTRUCT."""

OBJECTS_FOLDER = "dicom"
"""Where the objects lie among predictions."""
