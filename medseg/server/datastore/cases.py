"""The list of cases of a dataset, read again when it may have changed, and images that are added to it."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from medseg.data.cases import Case, list_images
from medseg.data.io.readers import image_stem, is_image_file, read_scan
from medseg.data.layouts.discovery import DatasetListing, LayoutOptions
from medseg.data.layouts.folder_names import find_folder_pairs
from medseg.data.scans import Scan, as_label_map
from medseg.errors import DataError, MedsegError
from medseg.files import TEMPORARY
from medseg.server.datastore.object_numbers import count_numbered_pieces, number_objects
from medseg.server.errors import ConflictError, RefusedError, UnknownIdError
from medseg.server.http.logs import LOGGER, describe_failure
from medseg.system.platform import process_token, sync_file

_REFRESH_SECONDS = 5.0
_LONGEST_ID = 100
_LOOKED_AT = 8


def plain_id(text: str) -> str:
    """Return the id of an image that a client names by any text.

    Example:
        >>> plain_id("CT: chest/abdomen")
        'CT_ chest_abdomen'
    """
    cleaned = re.sub(r"[^\w .()+=@^-]", "_", text).lstrip(". ").rstrip(" ")
    return cleaned[:_LONGEST_ID]


class CaseList:
    """The cases of a dataset by id. Methods can be called from several threads.

    Args:
        find: lists the dataset.
    """

    def __init__(self, find: Callable[[], DatasetListing]) -> None:
        self._find = find
        self.lock = threading.RLock()
        self._listed, self._seconds = 0.0, 0.0
        self.listing: DatasetListing
        self._values: dict[tuple[str, int, int], set[int]] = {}
        self._pieces: dict[tuple[str, int, int], int] = {}
        self.refresh(strict=True)

    def current(self) -> dict[str, Case]:
        """Return the cases, listed again if the list is older than a few seconds."""
        with self.lock:
            if time.monotonic() - self._listed > max(_REFRESH_SECONDS, 20 * self._seconds):
                return self.refresh()
            return self._cases

    def refresh(self, *, strict: bool = False) -> dict[str, Case]:
        """List the cases again and return them.

        If that fails, as while files of a case are being copied, the last list is kept unless it is ``strict``.
        """
        with self.lock:
            began = time.monotonic()
            try:
                self.listing = self._find()
                self._cases = {case.id: case for case in self.listing.cases}
            except (MedsegError, OSError) as error:
                if strict:
                    raise
                LOGGER.warning("the dataset cannot be listed now: %s", describe_failure(error))
            self._listed = time.monotonic()
            self._seconds = self._listed - began
            return self._cases

    def put(self, case: Case) -> None:
        """Enter a case whose label changed, without listing the dataset."""
        with self.lock:
            self._cases = {**self._cases, case.id: case}

    def refreshed(self) -> DatasetListing:
        """List the cases again and return the list, with the labels that the layout declares."""
        with self.lock:
            self.refresh()
            return self.listing

    def get(self, id: str) -> Case:
        """Return a case.

        Raises:
            UnknownIdError: there is no image with this id.
        """
        for cases in (self.current, self.refresh):
            found = cases()
            case = found.get(id) or found.get(plain_id(id))
            if case is not None:
                return case
        raise UnknownIdError("there is no image with this id")

    def values(self, *, everything: bool) -> set[int]:
        """Return the values in the label maps of the dataset, all or some of them; each file is read once."""
        labels = [case.label for case in list(self.current().values()) if case.label is not None]
        found: set[int] = set()
        for label in labels if everything else labels[:_LOOKED_AT]:
            if label.is_file():
                found |= self.values_of(label)
        return found

    def values_of(self, label: Path) -> set[int]:
        """Return the values in a label map; none if it cannot be read as one."""
        key = _stamp(label)
        if key not in self._values:
            try:
                label_map = as_label_map(read_scan(label))
                self._values[key] = {int(v) for v in np.unique(label_map)}
                self._pieces[key] = count_numbered_pieces(label_map)
            except DataError:
                self._values[key], self._pieces[key] = set(), 0
        return self._values[key]

    def number_objects(self) -> bool:
        """Whether the label maps looked at number objects, such as cells, instead of classes."""
        labels = [case.label for case in list(self.current().values()) if case.label is not None]
        looked_at = [label for label in labels[:_LOOKED_AT] if label.is_file() and self.values_of(label) - {0}]
        return number_objects([self._pieces[_stamp(label)] for label in looked_at])


def _stamp(path: Path) -> tuple[str, int, int]:
    stat = path.stat()
    return (str(path), stat.st_mtime_ns, stat.st_size)


def with_label_on_disk(case: Case, place: Path) -> Case:
    """Return a case with the label map that lies on the disk now, whatever the list of cases says.

    Args:
        case: the case.
        place: where its label map belongs.
    """
    if case.label is not None and case.label.exists():
        return case
    case, stem = replace(case, label=None), image_stem(place)
    if not place.parent.is_dir():
        return case
    near = [p for p in sorted(place.parent.iterdir()) if p.name.startswith(stem) and p != case.image]
    found = [p for p in near if p.is_file() and is_image_file(p) and image_stem(p) == stem]
    return replace(case, label=found[0]) if found else case


def images_folder(root: Path, layout: LayoutOptions) -> Path:
    """Return the folder that new images are added to.

    Raises:
        RefusedError: images cannot be added to this layout.
    """
    if root.is_dir() and list_images(root):
        return root
    try:
        return find_folder_pairs(root, layout)[0].images
    except (DataError, OSError) as error:
        raise RefusedError("images cannot be added to a dataset of this layout") from error


def add_image(cases: CaseList, id: str, file: Path, folder: Path) -> str:
    """Add an image to a dataset; nothing that exists is changed.

    Args:
        cases: the dataset.
        id: id of the image, plain.
        file: the image, which was checked.
        folder: folder of images.

    Raises:
        RefusedError: the layout does not take an image of this name.
        ConflictError: there is a file of this name.
    """
    suffix = file.name[len(image_stem(file)) :]
    target = folder / f"{id}{suffix}"
    with cases.lock:
        before = cases.refresh()
        taken = any(image_stem(p) == id or p.name.startswith(f"{id}.") for p in folder.iterdir())
        if not id or taken or image_stem(target) != id or target.parent != folder:
            raise ConflictError("there is a file of this name")
        _create(file, target)
        try:
            after = cases.refresh(strict=True)
            fits = set(after) == {*before, id} and all(after[one] == before[one] for one in before)
        except MedsegError:
            fits = False
        if not fits:
            target.unlink(missing_ok=True)
            cases.refresh()
            raise RefusedError("the dataset's layout does not take an image of this name")
    return id


def _create(source: Path, target: Path) -> None:
    """Copy a file to a name that must not exist; the name appears with the whole content.

    Raises:
        ConflictError: the name exists.
    """
    temporary = target.with_name(f"{TEMPORARY}{process_token()}-{os.urandom(4).hex()}-{target.name}")
    try:
        shutil.copyfile(source, temporary)
        sync_file(temporary)
        try:
            os.link(temporary, target)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            _copy_new(temporary, target)
    except FileExistsError as error:
        raise ConflictError("there is a file of this name") from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _copy_new(source: Path, target: Path) -> None:
    """Copy a file to a name that must not exist; a copy that cannot be completed is removed."""
    with target.open("xb") as stream:
        try:
            stream.write(source.read_bytes())
        except BaseException:  # also when interrupted
            target.unlink()
            raise


def same_image(scan: Scan, file: Path) -> bool:
    """Whether a file holds the voxels of a scan."""
    other = read_scan(file)
    return scan.grid.shape == other.grid.shape and bool(np.array_equal(scan.array, other.array))
