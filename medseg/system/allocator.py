"""Memory allocation and threads of the process, and detection of out-of-memory errors."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

# from malloc.h of glibc
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT = 2**30
_OWN_MAPPING = 2**28
_SPINS = "1000"
"""Rounds of an OpenMP thread before it sleeps; measured in docs/how-to/clusters.md."""

_SCHEDULER = struct.Struct("=IIQiIQQQ")
"""``struct sched_attr``: size, policy, flags, nice, priority, runtime (the slice, ns), deadline, period."""
_SCHEDULER_CALLS = {"x86_64": (315, 314), "aarch64": (275, 274)}
"""Numbers of the system calls ``sched_getattr`` and ``sched_setattr``."""
_SLICE = 100_000
"""Nanoseconds, the shortest slice that the kernel grants."""

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


def shorten_time_slices() -> bool:
    """Ask the scheduler for short time slices for this process and those it starts, on Linux 6.12 and later.

    Threads that compute together wait for the one that another process interrupts. With slices of 0.1 ms
    instead of about 3 ms it continues sooner; measured in docs/how-to/clusters.md. The share of the processor
    stays the same. Earlier kernels ignore the request.

    Returns:
        Whether the kernel was asked. False on other systems, and for processes with a scheduling policy of
        their own (``chrt``), where nothing changes.
    """
    numbers = _SCHEDULER_CALLS.get(platform.machine())
    if numbers is None or not sys.platform.startswith("linux"):
        return False
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    get_call, set_call = numbers
    buffer = ctypes.create_string_buffer(_SCHEDULER.size)
    if syscall(get_call, 0, buffer, _SCHEDULER.size, 0):
        return False
    size, policy, flags, nice, priority, _, *rest = _SCHEDULER.unpack(buffer.raw)
    if policy != os.SCHED_OTHER:
        return False
    attributes = _SCHEDULER.pack(size, policy, flags, nice, priority, _SLICE, *rest)
    return syscall(set_call, 0, attributes, 0) == 0


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
