"""Download of files: resumed after an interruption, verified, and complete or absent."""

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
    """Return the first digits of the SHA-256 in the name of a published file, or None.

    Other files may have dates or steps in the same place (``net-20240115.pth``). Use it only for names given
    by a publisher.

    Example:
        >>> hash_in_name(Path("resnet50-0676ba61.pth"))
        '0676ba61'
    """
    match = _HASH_IN_NAME.search(path.name)
    return match[1] if match else None


def check_hash(path: Path) -> None:
    """Compare the SHA-256 of a file with the hash in its name, if there is one.

    Raises:
        DataError: if they differ.
    """
    expected = hash_in_name(path)
    if expected is None:
        return
    with path.open("rb") as stream:
        actual = hashlib.file_digest(stream, "sha256").hexdigest()
    if not actual.startswith(expected):
        raise DataError(
            f"{path}: its SHA-256 begins with {actual[:8]}, expected {expected} as in its name: it is damaged "
            "or another file",
            hint="Download it again.",
            path=path,
        )


def download_file(
    url: str,
    target: Path,
    *,
    timeout: float = 30.0,
    attempts: int = 4,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Path:
    """Download ``url`` to ``target``, unless the file already exists.

    Received bytes are kept as ``target.part`` and continued by the next attempt or call. The file is renamed to
    ``target`` once it is complete and matches the hash in its name.

    Args:
        url: http or https address.
        target: file to write; a hash in its name is verified (:func:`hash_in_name`).
        timeout: seconds without data after which an attempt fails.
        attempts: number of attempts.
        progress: called with the bytes received so far and in total (None if unknown).

    Returns:
        ``target``.

    Raises:
        ConfigError: if ``url`` is not an http or https address.
        DataError: if the address cannot be reached, or the file does not match the hash in its name.
    """
    target = Path(target)
    if urlsplit(url).scheme not in ("http", "https"):
        raise ConfigError(f"{url}: not a download address, expected http://… or https://…")
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
        f"{url}: download failed ({reason})",
        hint="The next call continues it. Without a network connection, download the file on another machine "
        f"and copy it to {target}.",
        path=target,
    )


def _continue(url: str, part: Path, timeout: float, progress: Callable[[int, int | None], None]) -> bool:
    """Continue a download where ``part`` ends; returns whether it is complete."""
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response: Any = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to download
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
    expected = hash_in_name(target)
    with part.open("rb") as stream:
        actual = hashlib.file_digest(stream, "sha256").hexdigest()
    if expected is not None and not actual.startswith(expected):
        part.unlink()
        raise DataError(
            f"{url}: the downloaded file has the SHA-256 {actual[:8]}…, expected {expected} as in its name; it "
            "was deleted",
            hint="Download it again. If the error persists, the address provides another file.",
        )
    part.replace(target)
