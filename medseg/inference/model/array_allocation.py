"""Allocation of arrays that may be larger than memory."""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

from medseg.geometry import Array
from medseg.system.platform import reserve_space

IN_MEMORY = 2 * 2**30
"""Bytes up to which an array is held in memory."""


def allocate_or_memmap(
    shape: tuple[int, ...], folder: Path | None = None, *, in_memory: int = IN_MEMORY
) -> Array:
    """Return float32 zeros, memory-mapped to a file if they take more than ``in_memory`` bytes.

    The file has no name, so it disappears with the array, however the process ends. Its disk space is reserved
    at once; the system can evict its pages when memory is short.

    Args:
        shape: of the array.
        folder: of the file; the system's temporary folder if None.
        in_memory: bytes up to which the array is held in memory.

    Raises:
        OSError: there is not enough disk space.

    Example:
        >>> allocate_or_memmap((2, 3)).shape
        (2, 3)
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
            place = str(folder) if folder is not None else "the temporary folder (TMPDIR)"
            raise OSError(
                error.errno, f"no space for {size / 2**30:.0f} GiB of probabilities in {place}"
            ) from error
        return np.memmap(file, np.float32, "r+", shape=shape)
