"""``Datastore``: the images of a dataset by id, their labels, and how labels are saved."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.cases import Case
from medseg.data.io.readers import image_stem, output_suffix, read_scan, reader_for
from medseg.data.labels.schema import Color, LabelSchema, smallest_integer
from medseg.data.layouts import find_dataset, layout_of
from medseg.data.layouts.discovery import DEFAULT_LAYOUT, DatasetListing, LayoutOptions
from medseg.data.scans import Scan, align_to_grid, as_label_map
from medseg.errors import DataError
from medseg.files import remove_stale_temporaries, sha256_file, write_atomic
from medseg.geometry import Array
from medseg.report.palette import value_palette
from medseg.server.datastore.cases import (
    CaseList,
    add_image,
    images_folder,
    plain_id,
    same_image,
    with_label_on_disk,
)
from medseg.server.datastore.incoming import as_integers
from medseg.server.datastore.names import LabelNames
from medseg.server.datastore.placement import LabelPlaces
from medseg.server.datastore.scans import ByCase, ScanCache, is_one_file, write_as_nifti
from medseg.server.datastore.versions import FINAL, Author, History, LabelVersion, VersionStore
from medseg.server.errors import ConflictError, UnknownIdError
from medseg.system.locks import wait_for_lock

HIDDEN = ".medseg"
"""Folder of the dataset that holds earlier versions of labels and their records."""

_NO_LAYOUT = (
    "For folders of another kind, write a table manifest.csv into the folder, with the columns id and image: "
    "one row for each image, with its path."
)


class Datastore:
    """The images of a dataset by id, and their labels. All methods can be called from several threads.

    Labels are saved into the dataset's own layout. Every version is kept, with a record, in ``.medseg/labels``;
    label maps that were changed by other programs become versions before they are replaced.

    Args:
        root: folder or manifest of the dataset.
        layout: settings that select its files.
        suggested: labels to use where the dataset declares none, such as those of a model.
        temporary: folder for files that are made for download.
        scan_bytes: memory for scans that were read before.

    Raises:
        DataError: there is no dataset, or labels of its layout cannot be written.
        NotWritableError: the folder of label maps, or that of their versions, cannot be written to.

    Example:
        >>> store = Datastore(Path("data/liver"))  # doctest: +SKIP
        >>> label = store.save("liver_1", label_map, Author("ana"))  # doctest: +SKIP
    """

    def __init__(
        self,
        root: Path,
        layout: LayoutOptions = DEFAULT_LAYOUT,
        suggested: LabelSchema | None = None,
        temporary: Path | None = None,
        scan_bytes: int = 1 << 30,
    ) -> None:
        self.root = Path(root)
        self.folder = self.root if self.root.is_dir() else self.root.parent
        self._layout, self._suggested = layout, suggested
        self._places = LabelPlaces(self.root, layout)
        self._versions = VersionStore(self.folder / HIDDEN / "labels")
        self._scans, self._by_case = ScanCache(scan_bytes), ByCase()
        self._temporary = temporary or self.folder / HIDDEN / "download"
        self._names: LabelNames | None = None
        self._names_lock = threading.Lock()
        self._places.prepare(self._versions.folder)
        self._list = CaseList(self.list_cases)
        self._places.check_folders(list(self._list.current().values()))
        self.recover()

    def list_cases(self) -> DatasetListing:
        """List the cases of the dataset."""
        try:
            return find_dataset(self.root, self._layout)
        except DataError as error:
            if layout_of(self.root, self._layout) is None and self.root.is_dir():
                raise DataError(error.message, hint=_NO_LAYOUT, path=self.root) from error
            raise

    # --- images ---------------------------------------------------------------------------------------------

    def ids(self) -> list[str]:
        """Return the ids of all images, sorted."""
        return sorted(self._list.current())

    def case(self, id: str) -> Case:
        """Return a case.

        Raises:
            UnknownIdError: there is no image with this id.
        """
        return self._list.get(id)

    def scan(self, id: str) -> Scan:
        """Return the image of a case, whose array is read-only. Raises: DataError if it cannot be read."""
        return self._scans.get(self.case(id))

    def image_file(self, id: str) -> Path:
        """Return one file with the image: its own, or NIfTI made of a series, a stack or several channels."""
        case = self.case(id)
        if is_one_file(case):
            return case.image
        path = self._temporary / f"{case.id}.nii.gz"
        return self._by_case.run(
            case.id, lambda: path if path.exists() else write_as_nifti(self.scan(id), path)
        )

    def image_digest(self, id: str) -> str:
        """Return the SHA-256 of :meth:`image_file`."""
        return self._scans.digest(self.case(id), self.image_file(id))

    def add_image(self, id: str, file: Path) -> str:
        """Add an image from a file that was checked; return its id, which is plain text.

        The same image under the same id is added once.

        Raises:
            RefusedError: the layout does not take an image of this name.
            ConflictError: there is another image or file with this name.
        """
        plain = plain_id(id)
        if plain in self._list.refresh():
            same_file = sha256_file(self.image_file(plain)) == sha256_file(file)
            if not same_file and not same_image(self.scan(plain), file):
                raise ConflictError("there is another image with this id")
            return plain
        with self._places.writing():
            return add_image(self._list, plain, file, images_folder(self.root, self._layout))

    # --- labels ---------------------------------------------------------------------------------------------

    def labels(self) -> dict[str, int]:
        """Return name → value in label files, without the background."""
        return self.names.values

    @property
    def names(self) -> LabelNames:
        """The names of the labels."""
        with self._names_lock:
            if self._names is None:
                self._names = LabelNames(
                    self.folder, lambda: self._list.refreshed().labels, self._list.values,
                    self._suggested, self._list.number_objects,
                )  # fmt: skip
            return self._names

    def add_labels(self, names: list[str]) -> dict[str, int]:
        """Give names that are new free values; return all."""
        with self._places.writing():
            return self.names.add(names)

    def colors(self) -> dict[str, Color]:
        """Return the color of each label."""
        palette = value_palette(self.names.schema)
        return {name: _color(palette, value) for name, value in self.labels().items()}

    def labeled(self) -> list[str]:
        """Return the ids of images that have a label in the dataset."""
        return sorted(id for id, case in self._list.current().items() if case.label_files)

    def unlabeled(self) -> list[str]:
        """Return the ids of images that have no label in the dataset."""
        return sorted(id for id, case in self._list.current().items() if not case.label_files)

    def status(self) -> dict[str, Any]:
        """Count images, labels, and labels under each tag."""
        tags: dict[str, int] = {}
        for id in self.ids():
            for tag in self.tags(id):
                tags[tag] = tags.get(tag, 0) + 1
        return {"total": len(self.ids()), "completed": len(self.labeled()), "label_tags": tags}

    def tags(self, id: str) -> list[str]:
        """Return the tags under which an image has a label."""
        case = self.case(id)
        tags = {FINAL} if case.label_files else set()
        others = (tag for tag in self._versions.tags(case.id) if tag != FINAL)
        return sorted(tags | {tag for tag in others if self.label(id, tag) is not None})

    def versions(self, id: str, tag: str = FINAL) -> list[LabelVersion]:
        """Return the versions of a label, oldest first; the last may be the removal of the label."""
        case = self.case(id)
        versions = self._versions.history(case.id, tag).versions()
        if tag == FINAL and case.label is not None:
            return self._with_found(case, versions)
        return versions

    def label(self, id: str, tag: str = FINAL) -> LabelVersion | None:
        """Return the newest version of a label; None without a label."""
        versions = self.versions(id, tag)
        return versions[-1] if versions and versions[-1].path is not None else None

    def read_label(self, id: str, tag: str = FINAL, number: int | None = None) -> Array | None:
        """Return the values (*S) of a label on the grid of its image; None without a label.

        Args:
            id: the image.
            tag: the tag.
            number: of a version; the newest if None.

        Raises:
            DataError: the label file holds something else than one value for each voxel.
        """
        versions = [v for v in self.versions(id, tag) if number is None or v.number == number]
        if number is not None and not versions:
            raise UnknownIdError("there is no such version of this label")
        if not versions or versions[-1].path is None:
            return None
        return as_label_map(align_to_grid(read_scan(versions[-1].path), self.scan(id).grid))

    def save(
        self, id: str, label_map: Array, by: Author, *, tag: str = FINAL, if_match: str | None = None
    ) -> LabelVersion:
        """Save a label as a new version, and, with the tag ``final``, into the dataset's layout.

        Args:
            id: the image.
            label_map: (*S) integers on the image's grid.
            by: who saves it, and with what.
            tag: the tag.
            if_match: digest of the version that the label map was made from, ``""`` for none; None saves
                whatever the newest version is.

        Raises:
            UnknownIdError: there is no image with this id.
            ConflictError: ``if_match`` is not the newest version's digest.
            DataError: the label map has another shape, or values that are not declared.
        """
        case, scan = self.case(id), self.scan(id)
        own = (
            self._list.values_of(case.label) if case.label is not None and case.label.is_file() else set[int]()
        )
        values = self._checked(label_map, scan, own)
        reader = reader_for(case.image)
        palette = value_palette(self.names.schema)

        def write(path: Path) -> None:
            reader.write_label_map(path, values, scan, palette)

        with self._writing(case.id) as history_of:
            self.names.declare()
            return self._add(self.case(case.id), history_of(tag), write, by, if_match)

    def remove_label(self, id: str, by: Author, tag: str = FINAL) -> LabelVersion:
        """Remove a label from the dataset; its versions are kept. Raises: UnknownIdError without a label."""
        case = self.case(id)
        with self._writing(case.id) as history_of:
            if self.label(case.id, tag) is None:
                raise UnknownIdError("there is no such label")
            return self._add(case, history_of(tag), None, by, None)

    def restore(self, id: str, number: int, by: Author, tag: str = FINAL) -> LabelVersion:
        """Save an earlier version of a label again, as a new one."""
        label_map = self.read_label(id, tag, number)
        if label_map is None:
            raise UnknownIdError("this version has no label")
        return self.save(id, label_map, by, tag=tag)

    def recover(self) -> None:
        """Finish what a process that was killed left unfinished: put newest versions into the layout."""
        for id, tag in list(self._versions.interrupted()):
            with self._writing(id) as history_of:
                history = history_of(tag)
                newest = history.newest()
                case = self._list.current().get(id)
                if tag == FINAL and newest is not None and case is not None:
                    self._publish(case, newest)
                history.published()
        cases = self._list.refresh().values()
        folders = {case.image.parent for case in cases}
        folders |= {path.parent for case in cases for path in case.label_files}
        for folder in folders:
            remove_stale_temporaries(folder)

    # --- inside ---------------------------------------------------------------------------------------------

    def _checked(self, label_map: Array, scan: Scan, own: set[int]) -> Array:
        """Return a label map in the smallest type; ``own`` are the values of its present label map.

        Raises:
            DataError: its shape, type or values are not those of a label map of the image.
        """
        values = as_integers(label_map, scan.grid.shape)
        present = set(np.unique(values).tolist())
        undeclared = sorted(present - self.names.all_values - {0} - own)
        if undeclared and not self.names.schema.collapse_instances:
            if self.names.is_declared:
                declared = ", ".join(f"{name} = {value}" for name, value in self.labels().items())
                raise DataError(f"the values {undeclared[:10]} are not labels of the dataset: {declared}")
            self.add_labels([f"label_{value}" for value in undeclared])
        kind = smallest_integer(tuple(present | self.names.all_values))
        return np.ascontiguousarray(values.astype(kind))

    @contextmanager
    def _writing(self, id: str) -> Iterator[Any]:
        """Hold the lock of a case, against other threads and other processes, and yield its histories."""
        with self._by_case.turn(id):
            folder = self._versions.folder / id
            with self._places.writing():
                folder.mkdir(parents=True, exist_ok=True)
                with wait_for_lock(folder / ".lock"):
                    yield lambda tag: self._versions.history(id, tag)

    def _add(self, case: Case, history: History, write: Any, by: Author, if_match: str | None) -> LabelVersion:
        """Add a version while the case is locked, and publish it."""
        final = history.folder.name == FINAL
        history.clean()
        versions = history.versions()
        if final and versions and history.is_pending:  # an earlier attempt failed
            self._publish(case, versions[-1])
            history.published()
        place = self._places.place(case, list(self._list.current().values()))
        if final:
            case = with_label_on_disk(self._list.current().get(case.id, case), place)
            place = self._places.place(case, list(self._list.current().values()))
            versions = self._adopt(case, history, versions)
        newest = versions[-1] if versions else None
        digest = newest.digest if newest is not None else ""
        if if_match is not None and if_match != digest:
            raise ConflictError("the label was changed since it was read; read it again")
        record = {
            "case": case.id, "tag": history.folder.name, "author": by.name, "client": by.client,
            "models": dict(by.models), "note": by.note, "names": self.labels(), "earlier": digest,
        }  # fmt: skip
        suffix = place.name[len(image_stem(place)) :] if final else output_suffix(case.image)
        version = history.add(write, suffix, record, publish=final)
        if final:
            self._publish(case, version)
            history.published()
            self._list.put(replace(case, label=None if write is None else place))
        return version

    def _adopt(self, case: Case, history: History, versions: list[LabelVersion]) -> list[LabelVersion]:
        """Make the label map in the layout a version, if another program wrote it."""
        found = case.label
        if found is None or not found.is_file():
            return versions
        if versions and versions[-1].digest == sha256_file(found):
            return versions
        record = {"case": case.id, "tag": FINAL, "author": None, "note": "found in the dataset", "models": {}}
        suffix = found.name[len(image_stem(found)) :]
        adopted = history.add(partial(shutil.copyfile, found), suffix, record, publish=False)
        return [*versions, adopted]

    def _with_found(self, case: Case, versions: list[LabelVersion]) -> list[LabelVersion]:
        """Return the versions with the label map in the layout as the newest, if another program wrote it."""
        found = case.label
        if found is None or not found.is_file():
            return versions
        digest = sha256_file(found)
        if versions and versions[-1].digest == digest:
            return versions
        number = versions[-1].number + 1 if versions else 1
        record = {"case": case.id, "author": None, "note": "found in the dataset", "models": {}}
        return [*versions, LabelVersion(number, digest, found, record)]

    def _publish(self, case: Case, version: LabelVersion) -> None:
        """Put a version into the dataset's layout."""
        place = self._places.place(case, list(self._list.current().values()))
        if version.path is None:
            for path in case.label_files:
                path.unlink(missing_ok=True)
            return
        source = version.path
        with write_atomic(place) as temporary:
            shutil.copyfile(source, temporary)
        if case.label is not None and case.label != place:
            case.label.unlink(missing_ok=True)
        with self._list.lock:
            self._places.declare(case, place)


def _color(palette: Array, value: int) -> Color:
    red, green, blue = (int(c) for c in palette[value % len(palette)])
    return red, green, blue
