"""How the process shares memory and cores with the system, and how the lack of memory is recognized."""

from __future__ import annotations

import ctypes
import errno
import os

# of glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT = 2**30
_OWN_MAPPING = 2**28

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
"""What messages of a ``RuntimeError`` hold if a device or the machine has no memory left, in lower case."""


def keep_freed_memory() -> bool:
    """Let this process keep up to 1 GiB of memory that was freed, and tell whether it does.

    A network on the CPU frees the activations of every layer; glibc gives blocks of that size back to the
    system at once, and the next layer's are zeroed page by page: a quarter of a 3D U-Net's time. Blocks above
    256 MiB (scans, scores) still go back. Elsewhere than on glibc nothing is changed. It holds for the whole
    process: medseg's commands do it, scripts may call it before anything is computed.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, musl, Windows
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _OWN_MAPPING)) and bool(mallopt(_TRIM_THRESHOLD, _KEPT))


def wait_without_spinning() -> None:
    """Let OpenMP's threads sleep while they wait for each other; call it before torch is imported.

    By default they spin, which takes the cores from other processes, and, where those take a core, makes a
    training many times as slow. ``OMP_WAIT_POLICY`` in the environment decides instead, if it is set.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an exception, or one that caused it, says that a device or the machine has no memory left.

    Recognizes ``MemoryError``, ``OSError`` with ENOMEM and ``torch.OutOfMemoryError`` by their types; failed
    allocations of torch, cuDNN, cuBLAS, cuFFT, OpenVINO and ITK by the text of their ``RuntimeError``.
    """
    while error is not None:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return True
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return True
        if isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _TEXTS):
            return True
        error = error.__cause__
    return False
