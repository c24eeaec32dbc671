"""Atomic writing of files and folders, and SHA-256 digests of files and settings."""

from __future__ import annotations

import csv
import difflib
import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import StringIO
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from medseg.errors import DataError, DiskFullError, MedsegError, NotWritableError
from medseg.system.platform import free_space, has_ended, process_token, sync_file, sync_folder

TEMPORARY = ".tmp-"
"""Prefix of the names of unfinished files and folders."""

_ABANDONED_SECONDS = 24 * 3600
"""Age from which an unfinished file of a process on another machine counts as abandoned."""

_LONGEST_NAME = 255
"""Bytes of the longest name of a file on common file systems."""

_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)
"""Numbers of the errors of files that may not be written."""

_NO_ROOM = 1 << 16
"""Free bytes below which a failed write is attributed to a full disk."""


@contextmanager
def write_atomic(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path`` and rename it to ``path`` on success.

    If the block raises, the temporary file is removed and ``path`` is unchanged.

    Args:
        path: the file to write. The temporary name has the same suffixes, because writers choose the format by
            them.
        sync: whether to flush the file to the disk. Without it, a power failure may leave an incomplete file;
            suitable for files that are verified when read and can be created again.

    Raises:
        OSError: if the disk is full, whatever the writer raised, or the file cannot be written; it names
            ``path``, never the temporary file.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     target = Path(folder) / "new" / "a.txt"
        ...     with write_atomic(target) as temporary:
        ...         _ = temporary.write_text("complete")
        ...     target.read_text()
        'complete'
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
    except MedsegError:
        raise
    except Exception as error:  # writers report a full disk by exceptions of many kinds
        number = error.errno if isinstance(error, OSError) else None
        refused = number in _REFUSED or number == errno.EISDIR
        if is_disk_full(error) or (not refused and _is_full(path.parent)):
            raise OSError(number or errno.ENOSPC, "no space left on the disk", str(path)) from error
        if number is not None and str(getattr(error, "filename", None)) == str(temporary):
            raise OSError(number, getattr(error, "strerror", None), str(path)) from error
        raise
    finally:
        with suppress(OSError):  # a read-only disk refuses the removal of what does not exist
            temporary.unlink()


@contextmanager
def write_folder_atomic(path: Path, *, keep_existing: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` and rename it to ``path`` on success.

    An empty folder is replaced. If it is a link or the root of another disk, the content is moved into it.

    Args:
        path: the folder to write.
        keep_existing: whether a folder that another process fills in the meantime is kept; both must have the
            same content.

    Raises:
        OSError: if there is a folder that is not empty, and ``keep_existing`` is False.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        temporary.mkdir()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        yield temporary
        _sync_content(temporary)
        try:
            temporary.replace(path)
        except OSError as error:
            if not path.is_dir():
                raise
            if not any(path.iterdir()):
                _move_content(temporary, path)
            elif not keep_existing:
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(path)) from error
        sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sync_content(folder: Path) -> None:
    for file in folder.rglob("*"):
        (sync_folder if file.is_dir() else sync_file)(file)


def _move_content(source: Path, target: Path) -> None:
    """Move what a folder holds into an empty one, maybe on another disk; if that fails, it stays empty."""
    try:
        for one in source.iterdir():
            shutil.move(one, target / one.name)
        _sync_content(target)
    except BaseException:  # also when interrupted
        for one in target.iterdir():
            shutil.rmtree(one) if one.is_dir() else one.unlink()
        raise


def remove_stale_temporaries(folder: Path) -> list[Path]:
    """Remove unfinished files and folders of terminated processes from ``folder``.

    Those of running processes are kept, those of other machines for a day, and those that the user has no
    permission to remove.

    Returns:
        The removed files and folders.
    """
    removed: list[Path] = []
    for path in sorted(folder.glob(f"{TEMPORARY}*")) if folder.is_dir() else ():
        if _is_abandoned(path):
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                removed.append(path)
    return removed


def check_writable(path: Path, hint: str = "Choose a folder that can be written to.") -> None:
    """Check that a file or folder can be written, before work starts whose result would be lost.

    The nearest folder that exists is tried with an empty file, which is removed; no folder is created.

    Args:
        path: of the output, which need not exist.
        hint: what to do if it cannot be written.

    Raises:
        NotWritableError: if it cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     check_writable(Path(folder) / "new" / "table.csv")
    """
    above = next((one for one in (path, *path.parents) if os.path.exists(one)), Path())  # noqa: PTH110
    if not above.is_dir():
        if above != path:
            return  # a file where a folder is expected: the writer says so
        above = path.parent
    probe = _temporary(above / "probe")
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        if is_disk_full(error):
            raise DiskFullError(
                describe_full_disk(path), hint="Free some space, or choose another disk.", path=path
            ) from error
        inside = "" if above == path else f", {above} is not writable"
        raise NotWritableError(
            f"{path}: cannot be written{inside} ({error.strerror or error})",
            hint=hint,
            path=path,
        ) from error


def describe_full_disk(path: Path) -> str:
    """Return that no space is left for a file or folder, with the free space of its disk.

    Some space may be free: less than was written, or it is reserved.
    """
    free = free_space(path)
    known = "" if free is None else f" ({free / 2**20:.1f} MiB free)"
    return f"{path}: no space left on the disk{known}"


@contextmanager
def explain_write_errors(folder: Path, alternative: str) -> Iterator[None]:
    """Convert system errors of writing below ``folder`` into errors with a hint.

    Args:
        folder: the folder that the block writes to.
        alternative: what to do instead, as the continuation of a sentence (``set data.cache to …``).

    Raises:
        DiskFullError: if the disk is full.
        NotWritableError: if writing fails for another reason.
    """
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise DiskFullError(
                describe_full_disk(folder), hint=f"Free some space, or {alternative}.", path=folder
            ) from error
        raise NotWritableError(
            f"{folder}: cannot be written to ({error.strerror or error})",
            hint=f"{alternative[:1].upper()}{alternative[1:]}.",
            path=folder,
        ) from error


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception means that the disk is full or the user's quota is exceeded."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _is_full(folder: Path) -> bool:
    free = free_space(folder)
    return free is not None and free < _NO_ROOM


def _temporary(path: Path) -> Path:
    start = f"{TEMPORARY}{process_token()}-{uuid4().hex[:8]}-"
    name = path.name.encode(errors="surrogateescape")
    kept = name[max(0, len(start) + len(name) - _LONGEST_NAME) :]  # with its suffixes
    return path.with_name(start + kept.decode(errors="ignore"))


def _is_abandoned(path: Path) -> bool:
    ended = has_ended(path.name.removeprefix(TEMPORARY).partition("-")[0])
    if ended is not None:
        return ended
    try:
        files = [path, *path.rglob("*")] if path.is_dir() else [path]
        newest = max(file.stat().st_mtime for file in files)
    except FileNotFoundError:  # finished or removed in the meantime
        return False
    return time.time() - newest > _ABANDONED_SECONDS


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically, encoded as UTF-8."""
    with write_atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a CSV file with a header, or remove it if there are no rows."""
    if not rows:
        path.unlink(missing_ok=True)
        return
    stream = StringIO()
    writer = csv.DictWriter(stream, columns)
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, stream.getvalue())


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` atomically, as indented JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Return the SHA-256 of ``value`` as canonical JSON (sorted keys, no spaces).

    Example:
        >>> sha256_json({"b": 1, "a": 2}) == sha256_json({"a": 2, "b": 1})
        True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def as_json_object(value: Any) -> dict[str, Any]:
    """Return a parsed JSON value if it is an object, else an empty one.

    Example:
        >>> as_json_object({"a": 1}), as_json_object([1])
        ({'a': 1}, {})
    """
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def check_exists(path: Path, hint: str | None = None) -> None:
    """Check that a folder of cases or a manifest exists.

    Args:
        path: the folder or file.
        hint: what to do if it does not exist and nothing beside it has a similar name.

    Raises:
        DataError: with the most similar name beside it, if there is one.
    """
    if not path.exists():
        near = similar_sibling(path)
        suggestion = f"; did you mean {near}?" if near else ""
        raise DataError(f"{path}: does not exist{suggestion}", hint=None if near else hint, path=path)


def similar_sibling(path: Path) -> Path | None:
    """Return the existing path in the same folder whose name is most similar; None if none is."""
    try:
        names = [one.name for one in path.parent.iterdir()]
    except OSError:
        return None
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.75)
    return path.parent / near[0] if near else None
