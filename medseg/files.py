"""Files that are either whole or not there: atomic writing, hashing, and the hashing of settings."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from medseg.errors import DataError, DiskFullError
from medseg.system.platform import has_ended, process_token, sync_file, sync_folder

TEMPORARY = ".tmp-"
"""How the names of unfinished files and folders begin."""

_ABANDONED_SECONDS = 24 * 3600
"""Age at which an unfinished file of a process on another machine counts as abandoned."""

_NO_ROOM = 1 << 16
"""Bytes; where fewer are free, a writer failed because the disk is full."""


@contextmanager
def write_atomic(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is synced and renamed to ``path``.

    The temporary name keeps the suffixes of ``path`` (writers choose formats by them). If the block
    raises, the temporary file is removed and ``path`` is as it was before. Without ``sync`` a loss of power
    may leave a file that is not whole: for what can be made again and is checked when it is read.

    Raises: OSError with ``path`` in it if the disk is full, whatever the writer raised.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        yield temporary
        if sync:
            sync_file(temporary)
        temporary.replace(path)
        if sync:
            sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        if not is_disk_full(error) and shutil.disk_usage(path.parent).free >= _NO_ROOM:
            raise
        number = error.errno if isinstance(error, OSError) and error.errno else errno.ENOSPC
        raise OSError(number, "no space left on the disk", str(path)) from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


@contextmanager
def write_folder_atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; on success it becomes ``path``.

    If another process made ``path`` in the meantime, theirs is kept (both hold the same content).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            (sync_folder if file.is_dir() else sync_file)(file)
        try:
            temporary.replace(path)
        except OSError:
            if not path.is_dir():
                raise
        sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_stale_temporaries(folder: Path) -> list[Path]:
    """Remove what processes that have ended left unfinished in ``folder``; returns what was removed.

    Files of running processes stay, those of other machines for a day, and those that this user may not remove.
    """
    removed: list[Path] = []
    for path in sorted(folder.glob(f"{TEMPORARY}*")) if folder.is_dir() else ():
        if _is_abandoned(path):
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                removed.append(path)
    return removed


@contextmanager
def explain_write_errors(folder: Path, advice: str) -> Iterator[None]:
    """Turn the system's errors about what is written below ``folder`` into errors that say what to do.

    Raises: DiskFullError if the disk is full; DataError if it refuses for another reason.
    """
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise DiskFullError(f"{folder}: the disk is full. Free some space, or {advice}.") from error
        raise DataError(f"{folder}: cannot be written to ({error.strerror or error}); {advice}.") from error


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception says that a disk, or a user's share of it, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{TEMPORARY}{process_token()}-{uuid4().hex[:8]}-{path.name}")


def _is_abandoned(path: Path) -> bool:
    gone = has_ended(path.name.removeprefix(TEMPORARY).partition("-")[0])
    if gone is not None:
        return gone
    try:
        files = [path, *path.rglob("*")] if path.is_dir() else [path]
        newest = max(file.stat().st_mtime for file in files)
    except FileNotFoundError:  # finished or removed meanwhile
        return False
    return time.time() - newest > _ABANDONED_SECONDS


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically, UTF-8."""
    with write_atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` atomically, as indented JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """The SHA-256 of ``value`` written as canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
