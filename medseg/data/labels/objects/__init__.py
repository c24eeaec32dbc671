"""Objects in label files.

Modules:
    numbering: numbers of objects, and the setting ``data.instances``.
    files: objects from a file for each, from GeoJSON and from panoptic files.
"""
