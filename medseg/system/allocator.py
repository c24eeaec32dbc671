"""Memory allocation and threads of the process, and detection of out-of-memory errors."""

from __future__ import annotations

import ctypes
import errno
import os

# from malloc.h of glibc
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT = 2**30
_OWN_MAPPING = 2**28
_SPINS = "1000"
"""Rounds of an OpenMP thread before it sleeps; measured in docs/how-to/clusters.md."""

_TEXTS = (
    "out of memory",  # CUDA, MPS, XPU
    "can't allocate memory",  # torch on Linux and macOS CPUs
    "not enough memory",  # torch on Windows CPUs
    "defaultcpuallocator",
    "cannot allocate memory",  # strerror(ENOMEM), in messages of libraries
    "alloc_failed",  # CUDNN_STATUS_ALLOC_FAILED, CUBLAS_STATUS_ALLOC_FAILED, CUFFT_ALLOC_FAILED
    "bad_alloc",  # C++, OpenVINO among them
    "bad allocation",
    "failed to allocate",  # OpenVINO, ITK
    "unable to allocate",  # NumPy
)
"""Lower-case parts of the messages of a ``RuntimeError`` raised when a device or machine is out of memory."""

_ONEDNN = "could not create a primitive"
"""All that oneDNN says if it cannot allocate the code or the buffers of an operation."""


def keep_freed_memory() -> bool:
    """Let the process keep up to 1 GiB of freed memory instead of returning it to the system.

    A network on the CPU frees the activations of every layer. By default, glibc returns blocks of that size to
    the system at once, and the memory of the next layer is zeroed page by page, which takes a quarter of the
    time of a 3D U-Net. Blocks above 256 MiB (scans, logits) are still returned.

    The setting applies to the whole process. The commands of medseg set it; scripts may call it before they
    compute anything.

    Returns:
        Whether the setting is in effect. False on systems without glibc, where nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, musl, Windows
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _OWN_MAPPING)) and bool(mallopt(_TRIM_THRESHOLD, _KEPT))


def limit_spinning() -> None:
    """Let OpenMP threads spin for a few microseconds only, then sleep, while they wait for each other.

    Call it before torch is imported. By default they spin for milliseconds, which takes cores from other
    processes and makes training many times slower on a machine that others use. Threads that never spin make
    it 15% slower on a machine of its own. ``OMP_WAIT_POLICY`` and ``GOMP_SPINCOUNT`` of the environment are
    kept.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "passive"
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an exception, or one of its causes, means that a device or the machine is out of memory.

    ``MemoryError``, ``OSError`` with ENOMEM and ``torch.OutOfMemoryError`` are recognized by type. Failed
    allocations of torch, cuDNN, cuBLAS, cuFFT, OpenVINO and ITK raise a plain ``RuntimeError``, so that only
    their texts tell.

    Example:
        >>> is_out_of_memory(RuntimeError("CUDA error: out of memory"))
        True
    """
    while error is not None:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return True
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return True
        if isinstance(error, RuntimeError):
            text = str(error).strip().lower()
            if text == _ONEDNN or any(part in text for part in _TEXTS):
                return True
        error = error.__cause__
    return False
