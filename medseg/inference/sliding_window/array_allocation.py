"""Room for arrays that may be larger than the memory."""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

from medseg.geometry import Array
from medseg.system.platform import reserve_space

IN_MEMORY = 2 * 2**30
"""Bytes of an array that still lies in memory."""


def room(shape: tuple[int, ...], folder: Path | None = None, *, in_memory: int = IN_MEMORY) -> Array:
    """Zeros, float32. Above ``in_memory`` bytes they lie in a file of ``folder`` (none: the system's temporary
    folder) that has no name: it is gone with the array, however the process ends.

    The system takes such an array's pages back when memory is short. The disk's room is taken at once.
    Raises: OSError if there is not enough.
    """
    size = 4 * math.prod(shape)
    if size <= in_memory:
        return np.zeros(shape, np.float32)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=folder, prefix=".tmp-") as file:
        try:
            reserve_space(file.fileno(), size)
        except OSError as error:
            raise OSError(
                error.errno, f"no room for {size / 2**30:.0f} GiB of probabilities in {file_folder(folder)}"
            ) from error
        return np.memmap(file, np.float32, "r+", shape=shape)


def file_folder(folder: Path | None) -> str:
    """What to call the folder."""
    return str(folder) if folder is not None else "the temporary folder (TMPDIR)"
