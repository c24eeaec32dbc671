"""Cores of this machine, and the processes that run on some of them."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from pathlib import Path

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
"""Environment variables with the number of threads of the numerical libraries."""


def usable_core_numbers() -> list[int]:
    """Return the numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def processor_name() -> str:
    """Return the name of the processor; empty if it is unknown."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # macOS, Windows
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name"))
    return next(names, platform.processor())


def run_on_cores(cores: Iterable[int]) -> None:
    """Let this process and those that it starts run on these cores only; on macOS and Windows, do nothing."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
