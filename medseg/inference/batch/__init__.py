"""Batch inference: segment many cases and write an output folder.

Modules:
    batch_inference: ``infer_cases``, in one process; ``distributed`` uses the workers of a Dask scheduler.
    options: ``BatchOptions``, the files to write.
    input_discovery: input scans among files and folders.
    case_job: one case: read, segmented and written; ``tiled_images`` handles pictures larger than memory.
    case_files: the output files of one case, written together.
    output_folder: the output folder, and the files that describe all cases; ``output_layout`` has the names.
    output_files: probabilities, overlays, and ``CaseOutcome``.
    dicom_objects: DICOM SEG and RTSTRUCT objects of the results.
    provenance: records of how a result was made.
"""
