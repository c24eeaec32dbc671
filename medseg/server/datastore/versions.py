"""Versions of labels: every saved label map with a record, in a hidden folder of the dataset.

``DATA/.medseg/labels/CASE/TAG/0001.nii.gz`` is the first version and ``0001.json`` its record. A version exists
once its record does: both files are written under temporary names and renamed, the record last. A file
``pending`` beside them means that the newest version is to be copied into the dataset's own layout.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medseg.data.io.readers import image_stem
from medseg.files import remove_stale_temporaries, sha256_file, write_atomic, write_json
from medseg.server.errors import RefusedError
from medseg.system.platform import sync_folder

FINAL = "final"
"""Tag of the label maps in the dataset's own layout."""
ORIGINAL = "original"
"""Tag of label maps that a model made."""

_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_PENDING = "pending"


@dataclass(frozen=True)
class Author:
    """Who saves a label, and with what.

    Attributes:
        name: name of the annotator, as the client gives it.
        client: the program that saves, such as ``page`` or ``slicer``.
        models: name → digest of the models whose results the client received for this image.
        note: a remark.
    """

    name: str
    client: str = ""
    models: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class LabelVersion:
    """One version of a label.

    Attributes:
        number: 1 for the first.
        digest: SHA-256 of the file.
        path: the file; None if the label was removed with this version.
        record: author, client, time, models, note, names of the labels.
    """

    number: int
    digest: str
    path: Path | None
    record: Mapping[str, Any]


class History:
    """The versions of one label.

    Args:
        folder: folder of the versions, created with the first.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def versions(self) -> list[LabelVersion]:
        """Return all versions, oldest first."""
        if not self.folder.is_dir():
            return []
        numbers = sorted(int(p.stem) for p in self.folder.glob("[0-9]*.json") if p.stem.isdigit())
        return [self._read(number) for number in numbers]

    def newest(self) -> LabelVersion | None:
        """Return the newest version; None if there is none."""
        versions = self.versions()
        return versions[-1] if versions else None

    def add(
        self, write: Callable[[Path], object] | None, suffix: str, record: Mapping[str, Any], *, publish: bool
    ) -> LabelVersion:
        """Add a version.

        Args:
            write: writes the file; None if the label is removed.
            suffix: suffix of the file's name.
            record: what is recorded; the time is added.
            publish: whether the version is to be copied into the dataset's layout, see :meth:`published`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        number = self._next()
        path = None if write is None else self.folder / f"{number:04d}{suffix}"
        if path is not None and write is not None:
            with write_atomic(path) as temporary:
                write(temporary)
        if publish:
            (self.folder / _PENDING).touch()
            sync_folder(self.folder)
        digest = "" if path is None else sha256_file(path)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        content = {
            "version": number, "file": None if path is None else path.name, "sha256": digest, "time": now,
            **record,
        }  # fmt: skip
        write_json(self.folder / f"{number:04d}.json", content)
        return LabelVersion(number, digest, path, content)

    @property
    def is_pending(self) -> bool:
        """Whether the newest version is not yet in the dataset's layout."""
        return (self.folder / _PENDING).exists()

    def published(self) -> None:
        """Record that the newest version is in the dataset's layout."""
        (self.folder / _PENDING).unlink(missing_ok=True)

    def clean(self) -> None:
        """Remove what an interrupted process left: unfinished files, and files without a record."""
        remove_stale_temporaries(self.folder)
        recorded = {version.path for version in self.versions()}
        for path in self.folder.glob("[0-9]*"):
            if path.suffix != ".json" and image_stem(path).isdigit() and path not in recorded:
                path.unlink(missing_ok=True)

    def _next(self) -> int:
        found = (re.match(r"[0-9]+", path.name) for path in self.folder.glob("[0-9]*"))
        return max((int(match[0]) for match in found if match is not None), default=0) + 1

    def _read(self, number: int) -> LabelVersion:
        record = json.loads((self.folder / f"{number:04d}.json").read_text(encoding="utf-8"))
        path = self.folder / record["file"] if record["file"] else None
        return LabelVersion(number, record["sha256"], path, record)


class VersionStore:
    """The histories of all labels of a dataset.

    Args:
        folder: the folder ``.medseg/labels`` of the dataset.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def history(self, case: str, tag: str) -> History:
        """Return the versions of a label.

        Args:
            case: id of a case of the dataset, which is a plain file name.
            tag: the tag.

        Raises:
            RefusedError: the tag is not a plain word.
        """
        if not _TAG.fullmatch(tag):
            raise RefusedError("a tag has letters, digits, - and _ only, at most 32")
        return History(self.folder / case / tag)

    def tags(self, case: str) -> list[str]:
        """Return the tags under which a case has versions."""
        folder = self.folder / case
        return sorted(p.name for p in folder.iterdir() if _TAG.fullmatch(p.name)) if folder.is_dir() else []

    def interrupted(self) -> Iterator[tuple[str, str]]:
        """Yield the case and the tag of labels whose newest version is not yet in the dataset's layout."""
        for path in sorted(self.folder.glob(f"*/*/{_PENDING}")):
            yield path.parent.parent.name, path.parent.name
