"""``EmbeddingStore``: embeddings of pictures in memory and on disk, both bounded."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from medseg.files import is_disk_full, remove_stale_temporaries, write_atomic
from medseg.sam.network import Embedding
from medseg.system.locks import wait_for_lock

_SUFFIX = ".safetensors"
_HEADER = 1024
"""Room for the header of a file, bytes."""


def embedding_key(colors: NDArray[np.uint8], encoder_digest: str, preprocessing: str) -> str:
    """Return the key of an embedding: SHA-256 of the picture, the image encoder and the preprocessing."""
    digest = hashlib.sha256(f"{encoder_digest} {preprocessing} {colors.shape}".encode())
    digest.update(np.ascontiguousarray(colors).data)
    return digest.hexdigest()


class EmbeddingStore:
    """Keeps the embeddings used last, in memory and in a folder.

    Files are written atomically, and those not used for longest are removed before a new one exceeds the bound.
    Several processes may share a folder. A damaged file counts as absent.

    Args:
        folder: folder of the files; None keeps embeddings in memory only.
        disk_bytes: bound of all files in the folder.
        memory_bytes: bound of the embeddings in memory.
        dtype: type of the numbers that are kept. The embedding that is returned has its precision, whether it
            was kept or just computed.

    Example:
        >>> store = EmbeddingStore(memory_bytes=100)
        >>> store.get("a", lambda: (torch.zeros(1, 2, 2, 2),))[0].shape
        torch.Size([1, 2, 2, 2])
        >>> store.memory_used  # 8 numbers of 2 bytes
        16
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        disk_bytes: int = 8 << 30,
        memory_bytes: int = 512 << 20,
        dtype: torch.dtype = torch.float16,
    ) -> None:
        self.folder = folder
        self.disk_bytes = disk_bytes
        self.memory_bytes = memory_bytes
        self.dtype = dtype
        self.memory_used = 0
        self._kept: OrderedDict[str, Embedding] = OrderedDict()
        self._lock = threading.Lock()
        if folder is not None:
            remove_stale_temporaries(folder)

    def get(self, key: str, compute: Callable[[], Embedding]) -> Embedding:
        """Return the embedding with a key, float32; it is computed if it is not kept.

        Args:
            key: as :func:`embedding_key` returns it.
            compute: computes the embedding.
        """
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
        if kept is None:
            kept = self._read(key)
            if kept is None:
                kept = tuple(part.detach().to("cpu", self.dtype).contiguous() for part in compute())
                self._write(key, kept)
            self._keep(key, kept)
        return tuple(part.float() for part in kept)

    def holds(self, count: int, embedding: Embedding) -> bool:
        """Whether a number of embeddings of the size of this one can be kept."""
        size = sum(part.numel() for part in embedding) * self.dtype.itemsize
        on_disk = self.folder is not None and count * (size + _HEADER) <= self.disk_bytes
        return on_disk or count * size <= self.memory_bytes

    @property
    def disk_used(self) -> int:
        """Bytes of all files in the folder."""
        return sum(size for _, _, size in self._files())

    def _keep(self, key: str, embedding: Embedding) -> None:
        size = _size(embedding)
        with self._lock:
            if key in self._kept or size > self.memory_bytes:
                return
            while self._kept and self.memory_used + size > self.memory_bytes:
                self.memory_used -= _size(self._kept.popitem(last=False)[1])
            self._kept[key] = embedding
            self.memory_used += size

    def _read(self, key: str) -> Embedding | None:
        if self.folder is None:
            return None
        path = self.folder / (key + _SUFFIX)
        try:
            tensors = load_file(path)
            path.touch()
        except (OSError, SafetensorError, ValueError):
            return None
        return tuple(tensors[name].to(self.dtype) for name in sorted(tensors))

    def _write(self, key: str, embedding: Embedding) -> None:
        """Write an embedding after making room for it; without the disk it is only not kept."""
        size = _size(embedding) + _HEADER
        if self.folder is None or size > self.disk_bytes:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with wait_for_lock(self.folder / ".lock", patience=10):
            files = sorted(self._files(), reverse=True)
            used = sum(size for _, _, size in files)
            while files and used + size > self.disk_bytes:
                _, path, freed = files.pop()
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                    used -= freed
            try:
                with write_atomic(self.folder / (key + _SUFFIX), sync=False) as temporary:
                    save_file({str(i): part for i, part in enumerate(embedding)}, temporary)
            except OSError as error:
                if not is_disk_full(error):
                    raise

    def _files(self) -> list[tuple[int, Path, int]]:
        """List time of last use, path and size of each file."""
        found: list[tuple[int, Path, int]] = []
        for path in self.folder.glob(f"*{_SUFFIX}") if self.folder is not None else ():
            with suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime_ns, path, status.st_size))
        return found


def _size(embedding: Embedding) -> int:
    return sum(part.numel() * part.element_size() for part in embedding)
