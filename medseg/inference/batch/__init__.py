"""Batch inference: segment many cases and write an output folder.

Modules:
    batch_inference: ``infer_cases``, in one process; ``distributed`` uses the workers of a Dask scheduler.
    options: ``BatchOptions``, the files to write.
    input_discovery: input scans among files and folders.
    case_job: one case: read, segmented and written; ``tiled_images`` handles pictures larger than memory.
    outputs: the files that are written, and the records of how they were made.
"""
