"""Files from public addresses: fetched only when asked, resumed, verified, whole or not there."""

from __future__ import annotations

import hashlib
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from medseg.errors import ConfigError, DataError

_CHUNK = 1 << 20
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.[^.]+$")


def hash_in_name(path: Path) -> str | None:
    """The first digits of the SHA-256 that a published file has in its name (``resnet50-0676ba61.pth``).

    Other files have dates or steps there (``net-20240115.pth``): ask only where the name is a publisher's.
    """
    found = _HASH_IN_NAME.search(path.name)
    return found[1] if found else None


def check_hash(path: Path) -> None:
    """Compare a file with the hash in its name, if there is one.

    Raises: DataError if they differ.
    """
    wanted = hash_in_name(path)
    if wanted is None:
        return
    with path.open("rb") as stream:
        got = hashlib.file_digest(stream, "sha256").hexdigest()
    if not got.startswith(wanted):
        raise DataError(
            f"{path}: its SHA-256 begins with {got[:8]}, its name says {wanted}: it is damaged or another "
            "file. Fetch it again."
        )


def download_file(
    url: str,
    target: Path,
    *,
    timeout: float = 30.0,
    attempts: int = 4,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Path:
    """Fetch ``url`` to ``target``, unless it is there and whole.

    What came is kept as ``target.part`` and continued by the next attempt or the next call; the file gets its
    name when it is complete and its hash is that of its name.
    Raises: ConfigError if ``url`` is no http(s) address; DataError if it cannot be reached, or what came is not
    what its name says.
    """
    target = Path(target)
    if urlsplit(url).scheme not in ("http", "https"):
        raise ConfigError(f"{url}: not an address to fetch from; expected http://… or https://…")
    if target.is_file():
        check_hash(target)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    reason = "no attempt was made"
    for _ in range(attempts):
        try:
            if _continue(url, part, timeout, progress):
                _finish(part, target, url)
                return target
            reason = "the connection ended early"
        except urllib.error.HTTPError as error:
            reason = str(error)
            if error.code < 500:
                break
        except (OSError, HTTPException) as error:  # no network, time-outs, connections reset
            reason = str(getattr(error, "reason", error)) or type(error).__name__
    raise DataError(
        f"{url}: cannot be fetched ({reason}). What came is kept and continued next time. Without a network, "
        f"fetch it elsewhere and put it at {target}."
    )


def _continue(url: str, part: Path, timeout: float, progress: Callable[[int, int | None], None]) -> bool:
    """Read on from where ``part`` ends; returns whether it is whole now."""
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response: Any = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to fetch
            return True
        raise
    with response:
        resumed = response.status == 206
        done = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length else None
        with part.open("ab" if resumed else "wb") as stream:
            while chunk := response.read(_CHUNK):
                stream.write(chunk)
                done += len(chunk)
                progress(done, total)
    return total is None or done >= total


def _finish(part: Path, target: Path, url: str) -> None:
    wanted = hash_in_name(target)
    with part.open("rb") as stream:
        got = hashlib.file_digest(stream, "sha256").hexdigest()
    if wanted is not None and not got.startswith(wanted):
        part.unlink()
        raise DataError(
            f"{url}: what came has the SHA-256 {got[:8]}…, its name says {wanted}; it was thrown away. Fetch "
            "it again; if it stays so, the address gives another file."
        )
    part.replace(target)
