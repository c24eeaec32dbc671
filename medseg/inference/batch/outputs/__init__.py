"""Files that batch inference writes.

Modules:
    folder: the output folder, and the files that describe all cases; ``layout`` has the names.
    case_files: the output files of one case, written together.
    files: probabilities, overlays, and ``CaseOutcome``.
    instance_files: tables, COCO JSON and GeoJSON of objects.
    dicom_objects: DICOM SEG and RTSTRUCT objects of the results.
    provenance: records of how a result was made.
"""
