"""How the process shares memory and cores with the system."""

from __future__ import annotations

import ctypes
import os

# of glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT = 2**30
_OWN_MAPPING = 2**28


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
