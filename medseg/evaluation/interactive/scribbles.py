"""Scribbles that people drew, in files."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from medseg.data.cases import list_images
from medseg.data.io.readers import image_stem, read_scan
from medseg.data.scans import Scan, align_to_grid, as_label_map
from medseg.errors import DataError, GeometryError
from medseg.files import check_exists
from medseg.geometry import Grid
from medseg.prompts import Scribble

Recorded = Mapping[str, Sequence[Scribble]]
"""Who → scribbles in the order in which they are replayed: on the object, then beside it."""

ON_OBJECT, BESIDE_OBJECT = 1, 2

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecordedScribbles:
    """A folder of scribble images, or of one subfolder of them for each person.

    An image has the grid of its case and the values 0 (not painted), 1 (on the object) and 2 (beside it). Its
    name is that of the case, or ``CASE_OBJECT`` where a case has several objects. An ``.npz`` archive with an
    array ``scribbles`` (people, 2, \\*S), on and beside the object, holds those of several people.

    Attributes:
        folder: the folder.
    """

    folder: Path

    def check(self, cases: Sequence[str]) -> None:
        """Check that there are images of scribbles for the cases; log the names of images that fit no case.

        Raises:
            DataError: if the folder does not exist, or no image belongs to a case.
        """
        check_exists(self.folder)
        folders = [path for path in self.folder.iterdir() if path.is_dir()] or [self.folder]
        stems = sorted({image_stem(path) for folder in folders for path in list_images(folder)})
        known = set(cases)
        other = [
            stem for stem in stems if stem not in known and not any(stem.startswith(f"{c}_") for c in known)
        ]
        if len(other) == len(stems):
            raise DataError(
                f"{self.folder}: no image of scribbles has the name of a case ({len(stems)} images)",
                hint=f"Name them after cases, such as {next(iter(cases), 'CASE')}.png, in the folder or in one "
                "subfolder for each person.",
                path=self.folder,
            )
        if other:
            _LOGGER.warning("scribbles of no case: %s", ", ".join(other[:10]))

    def of(self, case: str, objects: Sequence[str], grid: Grid) -> dict[str, dict[str, Sequence[Scribble]]]:
        """Return object → who → scribbles; objects without scribbles are left out.

        Raises:
            DataError: if the folder does not exist, or an image is damaged or has other values.
            GeometryError: if an image of scribbles is not on the grid of the case.
        """
        check_exists(self.folder)
        people = sorted(path for path in self.folder.iterdir() if path.is_dir())
        found: dict[str, dict[str, Sequence[Scribble]]] = {}
        for name in objects:
            stems = [f"{case}_{name}", *([case] if len(objects) == 1 else [])]
            recorded: dict[str, Sequence[Scribble]] = {}
            for folder in people or [self.folder]:
                who = folder.name if people else "person"
                recorded |= _read_person(folder, stems, who, grid)
            if recorded:
                found[name] = recorded
        return found


@dataclass(frozen=True)
class Archive:
    """A case in one ``.npz`` file: ``image``, ``label`` and, optionally, ``scribbles``.

    Attributes:
        path: the file.
        arrays: names of its arrays.
    """

    path: Path
    arrays: frozenset[str]

    @property
    def id(self) -> str:
        return self.path.stem

    @property
    def group(self) -> str:
        """Beginning of the name, which is the source in MedScribble's names."""
        return self.path.stem.split("_")[0]

    def load(self) -> tuple[NDArray[Any], NDArray[Any], Recorded]:
        """Read image (\\*S), label map (\\*S) and scribbles."""
        with np.load(self.path, allow_pickle=False) as content:
            image, label = content["image"], content["label"]
            scribbles = content["scribbles"] if "scribbles" in self.arrays else None
        return image, label, {} if scribbles is None else _people(self.path, scribbles, label.shape)


def find_archives(folder: Path) -> list[Archive]:
    """List the ``.npz`` files of a folder that hold an image and a label map; none if another file does not."""
    folder = Path(folder)
    paths = sorted(folder.glob("*.npz")) if folder.is_dir() else []
    archives = [Archive(path, _names(path)) for path in paths]
    return archives if all({"image", "label"} <= archive.arrays for archive in archives) else []


def _names(path: Path) -> frozenset[str]:
    try:
        with np.load(path, allow_pickle=False) as content:
            return frozenset(content.files)
    except (OSError, ValueError, BadZipFile, AttributeError) as error:
        raise DataError(f"{path}: not an archive of arrays ({error})", path=path) from error


def _read_person(folder: Path, stems: Sequence[str], who: str, grid: Grid) -> Recorded:
    for path in list_images(folder):
        if image_stem(path) not in stems:
            continue
        if path.suffix == ".npz" and "scribbles" in _names(path):
            with np.load(path, allow_pickle=False) as content:
                return _people(path, content["scribbles"], grid.shape)
        values = as_label_map(_on_grid(path, grid))
        unknown = sorted(set(np.unique(values).tolist()) - {0, ON_OBJECT, BESIDE_OBJECT})
        if unknown:
            raise DataError(
                f"{path}: scribbles have the values {unknown}; expected 0 (not painted), 1 (on the object) and "
                "2 (beside it)",
                path=path,
            )
        return {who: _pair(values == ON_OBJECT, values == BESIDE_OBJECT)}
    return {}


def _on_grid(path: Path, grid: Grid) -> Scan:
    try:
        return align_to_grid(read_scan(path), grid)
    except GeometryError as error:
        raise GeometryError(
            f"{path}: scribbles on another grid than the image: {error.message}", path=path
        ) from error


def _people(path: Path, scribbles: NDArray[Any], shape: tuple[int, ...]) -> Recorded:
    if scribbles.ndim < 4 or scribbles.shape[1:] != (2, *shape):
        raise DataError(
            f"{path}: scribbles have the shape {scribbles.shape}; expected (people, 2, "
            f"{', '.join(map(str, shape))}), on the object and beside it",
            path=path,
        )
    painted = scribbles > 0.5
    return {f"person {number}": _pair(one[0], one[1]) for number, one in enumerate(painted, start=1)}


def _pair(inside: NDArray[np.bool_], outside: NDArray[np.bool_]) -> list[Scribble]:
    """Return the scribbles on and beside an object; one that is empty is left out."""
    pairs = ((inside, True), (outside, False))
    return [Scribble(np.argwhere(painted), positive) for painted, positive in pairs if painted.any()]
