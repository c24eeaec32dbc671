"""A file of the cache: the arrays of one case, opened as a single memory map.

The format is safetensors (https://github.com/huggingface/safetensors): the length of the header, a JSON header
with the location of each array, then the arrays. A process keeps a limited number of files open, so that the
number of cases is not limited by file descriptors or memory maps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from medseg.files import write_atomic
from medseg.geometry import Array
from medseg.system.platform import descriptor_limit

OPEN_FILES = max(8, min(256, descriptor_limit() // 8))
"""Largest number of files that a process keeps open."""

_TYPES = {
    "U8": np.uint8,
    "U16": np.uint16,
    "I32": np.int32,
    "I64": np.int64,
    "F16": np.float16,
    "F32": np.float32,
}
_NAMES = {np.dtype(kind): name for name, kind in _TYPES.items()}
_ALIGNMENT = 64


@dataclass(frozen=True)
class ArrayLocation:
    """Location of an array in a file.

    Attributes:
        dtype: data type.
        shape: shape.
        start: position of the first byte.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    start: int

    @property
    def stop(self) -> int:
        """Position after the last byte."""
        return self.start + int(np.prod(self.shape)) * self.dtype.itemsize


@dataclass(frozen=True)
class CaseFile:
    """The arrays of one file by name.

    Attributes:
        path: the file.
        arrays: location of each array.
        metadata: further values stored with the arrays.
    """

    path: Path
    arrays: dict[str, ArrayLocation]
    metadata: dict[str, Any]

    def __getitem__(self, name: str) -> Array:
        """Return an array, memory-mapped and read-only.

        Raises:
            OSError: if the file was removed.
        """
        location = self.arrays[name]
        piece = _map_file(self.path)[location.start : location.stop]
        return piece.view(location.dtype).reshape(location.shape)

    def __contains__(self, name: str) -> bool:
        """Whether the file has an array of this name."""
        return name in self.arrays


def write_case_file(path: Path, arrays: Mapping[str, Array], metadata: Mapping[str, Any]) -> None:
    """Write arrays and metadata atomically; an existing file is replaced.

    The file is not flushed to the disk: :func:`read_case_file` detects files that a power failure truncated.
    Processes that have a replaced file open keep its content.

    Args:
        path: the file.
        arrays: arrays by name.
        metadata: values that JSON can represent.
    """
    header: dict[str, Any] = {"__metadata__": {"metadata": json.dumps(metadata)}}
    ordered = sorted(
        arrays.items(), key=lambda item: -item[1].dtype.itemsize
    )  # keeps each array aligned to its items
    start = 0
    for name, array in ordered:
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [start, start + array.nbytes],
        }
        start += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    with write_atomic(path, sync=False) as temporary, temporary.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little"))
        stream.write(text)
        for _, array in ordered:
            stream.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def read_case_file(path: Path) -> CaseFile | None:
    """Read the header of a case's file; None if the file does not exist or is incomplete."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            length = int.from_bytes(stream.read(8), "little")
            if not 0 < length <= size:
                return None
            header = json.loads(stream.read(length))
    except (FileNotFoundError, ValueError):
        return None
    metadata = json.loads(header.pop("__metadata__")["metadata"])
    arrays = {
        name: ArrayLocation(
            np.dtype(_TYPES[entry["dtype"]]), tuple(entry["shape"]), 8 + length + entry["data_offsets"][0]
        )
        for name, entry in header.items()
    }
    complete = size == max((location.stop for location in arrays.values()), default=0)
    return CaseFile(path, arrays, metadata) if complete else None


def close_case_files() -> None:
    """Close all files that this process keeps open; arrays in use stay valid."""
    _map_file.cache_clear()


@lru_cache(maxsize=OPEN_FILES)
def _map_file(path: Path) -> Array:
    return np.memmap(path, np.uint8, "r").view(np.ndarray)  # slicing a plain array is faster
