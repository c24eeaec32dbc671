"""Cache of preprocessed cases on disk.

Modules:
    cached_cases: cases that are prepared once and memory-mapped by all processes.
    settings: what decides the content of a cached case, and the space that it takes.
    case_file: the file of a case.
    compact_storage: images in 8 or 16 bits per voxel.
"""
