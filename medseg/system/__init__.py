"""Services of the operating system and the hardware, without knowledge of images.

Modules:
    platform: processes, memory, cores and signals of this operating system.
    processes: cores, threads and signals of processes, and sums over several.
    device: torch devices and mixed precision.
    allocator: memory of the CPU and CUDA allocators; detection of out-of-memory errors.
    locks: folders that one process at a time may use.
    download: downloads with a verified hash.
    weight_files: names and addresses of published weights.
    diagnostics: checks of the machine and the installation, for ``medseg doctor``.
    version: version of medseg.
    lazy_imports: names of a package that are imported on first use.
"""
