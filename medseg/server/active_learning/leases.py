"""Who is labeling which image: shared by all servers of a dataset in a file."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medseg.files import write_json
from medseg.system.locks import wait_for_lock
from medseg.system.platform import has_ended, process_token

_PATIENCE = 5.0


@dataclass(frozen=True)
class _Lease:
    """An image that a client was given.

    Attributes:
        client: the client.
        since: when, in seconds since 1970.
        server: `process_token` of the server that gave it.
    """

    client: str
    since: float
    server: str


class Leases:
    """Images that are not given to a second client for some time.

    If the file cannot be written, only the clients of this server are kept apart. Images that a server on this
    machine gave are free again once it has ended.

    Args:
        file: the file; None: this server only.
        seconds: time for which an image is not given to another client.
    """

    def __init__(self, file: Path | None, seconds: float) -> None:
        self._file, self._seconds = file, seconds
        self._own: dict[str, _Lease] = {}
        self._server = process_token()
        self._lock = threading.Lock()

    def owners(self) -> dict[str, str]:
        """Return image → client of the images that are taken."""
        return {image: lease.client for image, lease in self._current().items()}

    def take(self, image: str, client: str) -> bool:
        """Give an image to a client; return False if another client got it in the meantime."""
        with self._turn():
            current = self._current()
            if image in current and current[image].client != client:
                return False
            self._own[image] = _Lease(client, time.time(), self._server)
            self._write(current | {image: self._own[image]})
        return True

    def release(self, image: str) -> None:
        """Let other clients get an image again."""
        with self._turn():
            self._own.pop(image, None)
            current = self._current()
            if current.pop(image, None) is not None:
                self._write(current)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Let no other thread or server change the leases while the block runs."""
        with self._lock, ExitStack() as stack:
            if self._file is not None:
                with suppress(OSError):  # a dataset that cannot be written to
                    stack.enter_context(wait_for_lock(self._file.with_suffix(".lock"), patience=_PATIENCE))
            yield

    def _current(self) -> dict[str, _Lease]:
        now, known = time.time(), dict(self._own)
        for image, lease in self._read().items():
            if image not in known or known[image].since < lease.since:
                known[image] = lease
        return {
            image: lease
            for image, lease in known.items()
            if abs(now - lease.since) < self._seconds and not has_ended(lease.server)
        }

    def _read(self) -> dict[str, _Lease]:
        """Return the leases in the file; none if it is absent or damaged."""
        if self._file is None:
            return {}
        try:
            content: dict[str, Any] = json.loads(self._file.read_text(encoding="utf-8"))
            return {
                str(image): _Lease(str(one["client"]), float(one["since"]), str(one["server"]))
                for image, one in content.items()
            }
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}

    def _write(self, leases: dict[str, _Lease]) -> None:
        if self._file is not None:
            with suppress(OSError):
                write_json(self._file, {image: asdict(lease) for image, lease in leases.items()})
