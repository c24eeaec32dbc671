"""Scans in memory, and images as one file each for download."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from medseg.data.cases import Case
from medseg.data.io.multichannel import read_image
from medseg.data.io.nifti import write_nifti
from medseg.data.io.readers import reader_for, split_selector
from medseg.data.scans import Scan
from medseg.files import sha256_file, write_atomic

Stamp = tuple[tuple[str, int, int], ...]
Value = TypeVar("Value")


class ScanCache:
    """The scans that were read last, up to a number of bytes.

    Args:
        limit: bytes; the newest scan is kept however large it is.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._scans: OrderedDict[str, tuple[Stamp, Scan]] = OrderedDict()
        self._digests: dict[str, tuple[Stamp, str]] = {}
        self._lock = threading.Lock()
        self._reading: dict[str, threading.Lock] = {}

    def get(self, case: Case) -> Scan:
        """Return the scan of a case, read again if its files changed. Its array is read-only.

        Raises:
            DataError: it cannot be read.
        """
        stamp = _stamp(case)
        with self._lock:
            turn = self._reading.setdefault(case.id, threading.Lock())
        with turn:
            with self._lock:
                found = self._scans.get(case.id)
                if found is not None and found[0] == stamp:
                    self._scans.move_to_end(case.id)
                    return found[1]
            scan = read_image(case)
            scan.array.flags.writeable = False
            with self._lock:
                self._scans[case.id] = (stamp, scan)
                self._scans.move_to_end(case.id)
                while len(self._scans) > 1 and self._bytes() > self._limit:
                    self._scans.popitem(last=False)
            return scan

    def digest(self, case: Case, path: Path) -> str:
        """Return the SHA-256 of a file of a case, computed again only if the case's files changed."""
        stamp = _stamp(case)
        with self._lock:
            found = self._digests.get(case.id)
        if found is None or found[0] != stamp:
            found = (stamp, sha256_file(path))
            with self._lock:
                self._digests[case.id] = found
        return found[1]

    def _bytes(self) -> int:
        return sum(scan.array.nbytes for _, scan in self._scans.values())


def _stamp(case: Case) -> Stamp:
    files = [split_selector(path)[0] for path in case.images]
    return tuple((str(p), (s := p.stat()).st_mtime_ns, s.st_size) for p in files)


def is_one_file(case: Case) -> bool:
    """Whether the image of a case is one file that a viewer can open."""
    base, selector = split_selector(case.image)
    return not case.other_channels and selector is None and base.is_file() and _holds_itself(base)


def _holds_itself(path: Path) -> bool:
    return reader_for(path).files(path) == [path]


def write_as_nifti(scan: Scan, path: Path) -> Path:
    """Write a scan as NIfTI, channels last, on its own grid."""
    volume = scan.array if scan.kind == "volume" else scan.array.transpose(0, 2, 1)[..., None]
    if volume.dtype == bool or volume.dtype.kind not in "iuf" or volume.dtype == np.float16:
        volume = volume.astype(np.float32)
    stacked = volume[0] if len(volume) == 1 else np.moveaxis(volume, 0, -1)
    with write_atomic(path) as temporary:
        write_nifti(temporary, np.ascontiguousarray(stacked), scan)
    return path


class ByCase:
    """Values that are computed once for each case, by one thread at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: dict[str, threading.RLock] = {}

    def turn(self, case: str) -> threading.RLock:
        """Return the lock of a case."""
        with self._lock:
            return self._turns.setdefault(case, threading.RLock())

    def run(self, case: str, compute: Callable[[], Value]) -> Value:
        """Call a function while no other thread works on the same case."""
        with self.turn(case):
            return compute()
