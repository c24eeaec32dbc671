"""COCO's panoptic format: a PNG of numbers for each image, and JSON with the segments.

A segment's number is R + 256 G + 256² B (https://cocodataset.org/#format-data, 4. Panoptic Segmentation).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from scipy import ndimage

from medseg.errors import DataError, ExistingFileError
from medseg.files import as_json_object, sha256_file, sha256_json, write_atomic, write_json
from medseg.geometry import Array

_NAME_ENDING = re.compile(r"_(gt(Fine|Coarse)_panoptic|leftImg8bit)$")
"""What Cityscapes adds to the name of an image."""
_INFO = {"description": "panoptic segmentation by medseg"}
"""Marks the files that a later call may replace."""
_SOFTWARE = "medseg"
_EARLIER = "earlier_files"
"""PNGs of the replaced JSON, in one that is not finished."""


@dataclass(frozen=True)
class PanopticCategory:
    """A category.

    Attributes:
        id: its number in the file.
        name: its name.
        is_thing: whether its objects are countable.
    """

    id: int
    name: str
    is_thing: bool


@dataclass(frozen=True)
class PanopticEntry:
    """The segments of one image.

    Attributes:
        file: the PNG.
        classes: number → category.
        crowds: numbers of groups of objects.
        picture: name of the image's file; None if the JSON does not list the image.
    """

    file: Path
    classes: dict[int, int]
    crowds: frozenset[int]
    picture: str | None = None


@dataclass(frozen=True)
class PanopticIndex:
    """Content of a panoptic JSON file.

    Attributes:
        path: the JSON file.
        categories: id → category.
        entries: name of an image → its segments: the stem of the PNG, of Cityscapes without
            ``_gtFine_panoptic`` and ``_leftImg8bit``.
    """

    path: Path
    categories: dict[int, PanopticCategory]
    entries: dict[str, PanopticEntry]

    def read(self, name: str) -> Array:
        """Read the numbers (H, W) int64 of the segments of an image.

        Raises:
            DataError: the PNG is missing, or has a segment that is not in the JSON.
        """
        entry = self.entries[name]
        numbers = read_panoptic_png(entry.file)
        unknown = sorted(set(np.unique(numbers).tolist()) - entry.classes.keys() - {0})
        if unknown:
            raise DataError(f"{entry.file}: segment {unknown[0]} is not in {self.path}", path=entry.file)
        return numbers


def read_panoptic_index(path: Path) -> PanopticIndex:
    """Read a panoptic JSON file; its PNGs lie in the folder of its name without ``.json``, or beside it.

    The last few files are kept in memory.

    Raises:
        DataError: the file is not a panoptic JSON.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected COCO's panoptic JSON", path=path)
    status = path.stat()
    return _index(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)  # training, validation, test, and one more
def _index(path: Path, modified: int, size: int) -> PanopticIndex:
    folder = path.with_suffix("")
    folder = folder if folder.is_dir() else path.parent
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        categories = {
            int(one["id"]): PanopticCategory(int(one["id"]), str(one["name"]), bool(one["isthing"]))
            for one in content["categories"]
        }
        entries: dict[str, PanopticEntry] = {}
        pictures = {str(one["id"]): str(one["file_name"]) for one in content.get("images", [])}
        for one in content["annotations"]:
            segments = one["segments_info"]
            classes = {int(s["id"]): int(s["category_id"]) for s in segments}
            crowds = frozenset(int(s["id"]) for s in segments if s.get("iscrowd"))
            file = folder / str(one["file_name"])
            picture = pictures.get(str(one.get("image_id")))
            if len(classes) < len(segments):
                raise DataError(f"{path}: two segments of {file.name} have the same id", path=path)
            _check_entry(path, file, classes, categories.keys(), entries)
            entries[_name(file)] = PanopticEntry(file, classes, crowds, picture)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: expected COCO's panoptic JSON with categories and annotations ({error})",
            path=path,
        ) from error
    return PanopticIndex(path, categories, entries)


def _check_entry(
    path: Path,
    file: Path,
    classes: Mapping[int, int],
    known: Collection[int],
    entries: Mapping[str, PanopticEntry],
) -> None:
    """Raise DataError if an image is listed twice, or a segment has no valid id or an unknown category."""
    if _name(file) in entries:
        raise DataError(
            f"{path}: the image {_name(file)} has two annotations: {entries[_name(file)].file} and {file}",
            hint="Give each image a PNG of its own name.",
            path=path,
        )
    wrong = next((number for number in classes if not 0 < number < 1 << 24), None)
    if wrong is not None:
        raise DataError(
            f"{path}: a segment of {file.name} has the id {wrong}, expected 1 to {(1 << 24) - 1}; 0 marks void",
            hint="Give the segment another id, in the JSON and as color R + 256 G + 65536 B of its pixels.",
            path=path,
        )
    unknown = next((number for number, kind in classes.items() if kind not in known), None)
    if unknown is not None:
        raise DataError(
            f"{path}: segment {unknown} of {file.name} has the category {classes[unknown]}, expected one of "
            f"the categories {sorted(known)}",
            path=path,
        )


def _name(file: Path) -> str:
    """Return the name of an image from that of its PNG."""
    return _NAME_ENDING.sub("", file.stem)


def is_panoptic_label(path: Path | None) -> bool:
    """Whether a label is an image of a panoptic JSON: ``FILE.json#IMAGE.png``."""
    return path is not None and ".json#" in path.name and path.name.endswith(".png")


def split_panoptic_label(label: Path) -> tuple[PanopticIndex, str]:
    """Return the index of ``FILE.json#IMAGE.png``, and the name of the image in it.

    Raises:
        DataError: the file is not a panoptic JSON, or does not have the image.
    """
    file, _, image = str(label).rpartition("#")
    index, name = read_panoptic_index(Path(file)), _name(Path(image))
    if name not in index.entries:
        raise DataError(f"{file}: has no annotation of {image}", path=Path(file))
    return index, name


def panoptic_digest(label: Path) -> str:
    """Return the SHA-256 of the segments of one image: their categories, and the bytes of the PNG."""
    index, name = split_panoptic_label(label)
    entry = index.entries[name]
    pixels = sha256_file(entry.file) if entry.file.is_file() else "missing"
    return sha256_json([sorted(entry.classes.items()), sorted(entry.crowds), pixels])


def read_panoptic_png(path: Path) -> Array:
    """Read numbers of segments (H, W) int64; raise DataError if the file is no picture."""
    try:
        with Image.open(path) as picture:
            red, green, blue = np.moveaxis(np.asarray(picture.convert("RGB"), np.int64), -1, 0)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as a picture ({error})", path=path) from error
    return red + 256 * green + 65536 * blue


@dataclass
class PanopticWriter:
    """Writes images one by one, then the JSON, which is empty until then: PNGs never belong to an older one.

    PNGs that an earlier JSON of medseg lists, and the new one does not, are removed.

    Attributes:
        path: the JSON file; PNGs are written into the folder of its name without ``.json``.
        categories: of the segments.

    Raises:
        ExistingFileError: the files of these names were not written by medseg.
    """

    path: Path
    categories: Sequence[PanopticCategory]

    def __post_init__(self) -> None:
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._earlier = _earlier_files(self.path)

    def add(self, name: str, segments: Array, classes: Mapping[int, int]) -> None:
        """Write the PNG of an image.

        Args:
            name: of the image, without ending.
            segments: (H, W) numbers below 2²⁴, 0 for void.
            classes: number → category.

        Raises:
            ExistingFileError: a PNG of this name exists that medseg did not write.
        """
        target = self._folder / f"{name}.png"
        if target.exists() and target.name not in self._earlier and not _is_own_png(target):
            raise ExistingFileError(
                f"{target}: exists and was not written by medseg", hint="Move the file.", path=target
            )
        if not self._images:
            self._write((), (), {_EARLIER: self._earlier})
        target.parent.mkdir(parents=True, exist_ok=True)
        channels = [(segments >> shift & 255).astype(np.uint8) for shift in (0, 8, 16)]
        with write_atomic(target) as temporary:
            Image.fromarray(np.stack(channels, axis=-1)).save(temporary, format="PNG", pnginfo=_png_mark())
        number = len(self._images) + 1
        height, width = segments.shape
        self._images.append({"id": number, "file_name": target.name, "height": height, "width": width})
        self._annotations.append(
            {"image_id": number, "file_name": target.name, "segments_info": _segments_info(segments, classes)}
        )

    def finish(self) -> None:
        """Remove PNGs of an earlier JSON, and write the new one."""
        for name in set(self._earlier) - {image["file_name"] for image in self._images}:
            (self._folder / name).unlink(missing_ok=True)
        self._write(self._images, self._annotations, {})

    @property
    def _folder(self) -> Path:
        return self.path.with_suffix("")

    def _write(
        self,
        images: Sequence[dict[str, Any]],
        annotations: Sequence[dict[str, Any]],
        more: Mapping[str, Any],
    ) -> None:
        categories = [{"id": one.id, "name": one.name, "isthing": int(one.is_thing)} for one in self.categories]
        content = {"info": _INFO, "images": images, "annotations": annotations, "categories": categories}
        write_json(self.path, content | dict(more))


def _png_mark() -> PngInfo:
    """Return the text by which a PNG of an interrupted merge, which no JSON lists, is recognized."""
    mark = PngInfo()
    mark.add_text("Software", _SOFTWARE)
    return mark


def _is_own_png(path: Path) -> bool:
    try:
        with Image.open(path) as picture:
            return picture.info.get("Software") == _SOFTWARE
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False


def _earlier_files(path: Path) -> list[str]:
    """Return the names of the PNGs of an earlier JSON that may be replaced.

    Raises:
        ExistingFileError: annotations that medseg did not write would be replaced.
    """
    content: Any = {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        own = content.get("info") == _INFO
    except FileNotFoundError:
        own = not any(path.with_suffix("").glob("*"))
    except (OSError, ValueError, AttributeError):
        own = False
    if not own:
        raise ExistingFileError(
            f"{path}: this file or the folder of its pictures exists and was not written by medseg",
            hint="Choose another folder.",
            path=path,
        )
    listed = [as_json_object(one).get("file_name") for one in content.get("annotations") or []]
    listed += content.get(_EARLIER) or []
    names = {str(name) for name in listed if name}
    return sorted(name for name in names if Path(name).name == name and name.endswith(".png"))


def _segments_info(segments: Array, classes: Mapping[int, int]) -> list[dict[str, Any]]:
    info: list[dict[str, Any]] = []
    for number, box in enumerate(ndimage.find_objects(segments.astype(np.int32)), start=1):
        if box is None:
            continue
        (top, bottom), (left, right) = ((side.start, side.stop) for side in box)
        info.append({
            "id": number, "category_id": classes[number], "iscrowd": 0,
            "area": int(np.count_nonzero(segments[box] == number)),
            "bbox": [left, top, right - left, bottom - top],
        })  # fmt: skip
    return info
