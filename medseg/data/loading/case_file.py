"""One file of the cache: the arrays of a case, opened as one memory map.

The format is safetensors (https://github.com/huggingface/safetensors): the length of the header, a JSON header
with the place of each array, the arrays one after another. A process keeps only so many files open, so that
neither the number of descriptors nor that of memory maps limits how many cases there are.
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
"""Files that a process keeps open."""

_TYPES = {"U8": np.uint8, "U16": np.uint16, "I64": np.int64, "F16": np.float16, "F32": np.float32}
_NAMES = {np.dtype(kind): name for name, kind in _TYPES.items()}
_ALIGNMENT = 64


@dataclass(frozen=True)
class Place:
    """Where an array lies in a file: its type, shape, and first byte."""

    dtype: np.dtype
    shape: tuple[int, ...]
    start: int

    @property
    def stop(self) -> int:
        """The first byte behind it."""
        return self.start + int(np.prod(self.shape)) * self.dtype.itemsize


@dataclass(frozen=True)
class CaseFile:
    """The arrays of one file by name, and what else is written of them."""

    path: Path
    places: dict[str, Place]
    facts: dict[str, Any]

    def __getitem__(self, name: str) -> Array:
        """An array, memory-mapped and read-only. Raises: OSError if the file is gone."""
        place = self.places[name]
        piece = _mapped(self.path)[place.start : place.stop]
        return piece.view(place.dtype).reshape(place.shape)

    def __contains__(self, name: str) -> bool:
        """Whether there is an array of that name."""
        return name in self.places


def write_case_file(path: Path, arrays: Mapping[str, Array], facts: Mapping[str, Any]) -> None:
    """Write arrays and ``facts`` (plain types) to a file that is there as a whole or not at all.

    It is not synced: :func:`read_case_file` finds out a file that a loss of power cut off. A file that is there
    is replaced; who has it open keeps what was in it.
    """
    header: dict[str, Any] = {"__metadata__": {"facts": json.dumps(facts)}}
    ordered = sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize)  # each is aligned to its items
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
    """The header of a case's file; None if there is no file, or none that is whole."""
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
    facts = json.loads(header.pop("__metadata__")["facts"])
    places = {
        name: Place(
            np.dtype(_TYPES[entry["dtype"]]), tuple(entry["shape"]), 8 + length + entry["data_offsets"][0]
        )
        for name, entry in header.items()
    }
    whole = size == max((place.stop for place in places.values()), default=0)
    return CaseFile(path, places, facts) if whole else None


def close_case_files() -> None:
    """Let go of all files that this process keeps open; arrays in use stay."""
    _mapped.cache_clear()


@lru_cache(maxsize=OPEN_FILES)
def _mapped(path: Path) -> Array:
    return np.memmap(path, np.uint8, "r").view(np.ndarray)  # which is cut more quickly
