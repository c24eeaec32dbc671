"""The memory that images of clients may take together."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from medseg.server.errors import BusyError, RefusedError


class MemoryBudget:
    """Counts the bytes of images that clients sent, before they are decoded.

    Args:
        total: bytes of all images together.

    Example:
        >>> budget = MemoryBudget(100)
        >>> with budget.reserve(60):
        ...     budget.take(40)
        >>> budget.free
        60
    """

    def __init__(self, total: int) -> None:
        self._total, self._used = total, 0
        self._lock = threading.Lock()

    @property
    def free(self) -> int:
        """Bytes that are left."""
        return self._total - self._used

    def take(self, size: int) -> None:
        """Take bytes until they are given back.

        Raises:
            RefusedError: there are never as many.
            BusyError: other images take too many.
        """
        if size > self._total:
            raise RefusedError("the image has too many voxels")
        with self._lock:
            if self._used + size > self._total:
                raise BusyError("the images of other clients take too much memory; try again later")
            self._used += size

    def give_back(self, size: int) -> None:
        """Give bytes back."""
        with self._lock:
            self._used -= size

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """Take bytes while the block runs; errors as :meth:`take`."""
        self.take(size)
        try:
            yield
        finally:
            self.give_back(size)
