"""Sessions of images that a client sends and that are not in the dataset (MONAI Label's ``/session/``)."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.datastructures import UploadFile

from medseg.data.scans import Scan
from medseg.server.datastore.incoming import check_image, declared_bytes, suffix_of
from medseg.server.errors import BusyError, RefusedError, UnknownIdError
from medseg.server.http.bodies import store_upload
from medseg.server.memory import MemoryBudget


@dataclass
class UploadSession:
    """One image of a client."""

    folder: Path
    scan: Scan
    seconds: float
    bytes: int
    started: float = field(default_factory=time.time)
    used: float = field(default_factory=time.monotonic)

    def as_dict(self, id: str) -> dict[str, Any]:
        """Return what the client may know about its session."""
        return {
            "session_id": id, "name": id, "create_ts": int(self.started), "expiry": int(self.seconds),
            "shape": list(self.scan.grid.shape),
        }  # fmt: skip


class UploadSessions:
    """The images that clients sent.

    Args:
        folder: folder of their files.
        most: number of sessions.
        seconds: time after which an unused session ends.
        memory: what their images may take.
    """

    def __init__(self, folder: Path, most: int, seconds: float, memory: MemoryBudget) -> None:
        self._folder, self._most, self._seconds, self._memory = folder, most, seconds, memory
        self._sessions: dict[str, UploadSession] = {}
        self._lock = threading.Lock()

    def create(self, files: Sequence[UploadFile], seconds: float | None = None) -> str:
        """Keep the image in one file, or in the files of a DICOM series; return the session's id.

        Raises:
            RefusedError: there is no file, or files of this kind are not accepted.
            BusyError: there are too many sessions.
            DataError: the image cannot be read.
        """
        if not files:
            raise RefusedError("expected files with an image")
        with self._lock:
            self._drop_old()
            if len(self._sessions) >= self._most:
                raise BusyError("too many sessions are open")
        id, folder = secrets.token_urlsafe(16), self._folder / secrets.token_hex(8)
        size = 0
        try:
            suffixes = [suffix_of(file.filename or "", image=True) for file in files]
            if len(files) > 1 and set(suffixes) != {".dcm"}:
                raise RefusedError("several files are the slices of a DICOM series (.dcm)")
            stored = [store_upload(file, folder, suffix) for file, suffix in zip(files, suffixes, strict=True)]
            needed = declared_bytes(stored)
            self._memory.take(needed)
            size = needed
            scan = check_image(stored[0] if len(stored) == 1 else folder)
        except BaseException:
            self._memory.give_back(size)
            shutil.rmtree(folder, ignore_errors=True)
            raise
        with self._lock:
            self._sessions[id] = UploadSession(folder, scan, min(seconds or self._seconds, self._seconds), size)
        return id

    def get(self, id: str) -> UploadSession:
        """Return a session.

        Raises:
            UnknownIdError: it does not exist or has ended.
        """
        with self._lock:
            self._drop_old()
            if id not in self._sessions:
                raise UnknownIdError("the session does not exist or has ended")
            session = self._sessions[id]
            session.used = time.monotonic()
            return session

    def remove(self, id: str) -> UploadSession:
        """End a session.

        Raises:
            UnknownIdError: it does not exist or has ended.
        """
        session = self.get(id)
        with self._lock:
            if self._sessions.pop(id, None) is not None:
                self._end(session)
        return session

    def _drop_old(self) -> None:
        now = time.monotonic()
        for id in [id for id, one in self._sessions.items() if now - one.used > one.seconds]:
            self._end(self._sessions.pop(id))

    def _end(self, session: UploadSession) -> None:
        self._memory.give_back(session.bytes)
        shutil.rmtree(session.folder, ignore_errors=True)
