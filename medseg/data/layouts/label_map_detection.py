"""Which files of a folder look like label maps rather than scans: by name or type, then by their voxels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

from medseg.data.io.dicom.segmentation import is_dicom_seg
from medseg.data.io.nifti import NiftiReader
from medseg.data.io.pictures import PictureReader
from medseg.data.io.readers import image_stem, read_scan
from medseg.errors import DataError
from medseg.geometry import Array

_WORDS = frozenset(
    {
        *("mask", "masks", "seg", "segs", "dseg", "segmentation", "segmentations", "contours"),
        *("label", "labels", "labelmap", "labelmaps", "labelstr", "labelsts"),
        *("annot", "annotation", "annotations", "manual", "manual1", "manual2"),
        *("gt", "groundtruth", "truth", "reference", "references"),
    }
)
"""Words in names of label maps, and of folders of them."""
_NAMED, _UNNAMED = (1024, 0.9), (64, 0.97)
"""Most values of a label map, and the least share of its labeled voxels that have a neighbor of their value:
where a name speaks for a label map, and where only the type does. In public data sets label maps have shares
from 0.93 on (lines one pixel wide), scans of few values up to 0.80 (dark fluorescence of 8 bits)."""
_PLANES = 16


def find_label_maps(files: Sequence[Path], root: Path) -> list[Path]:
    """The files of a folder that look like label maps, in their order; ``root`` is where names begin to count.

    A file is looked at if a word in its name or its folder's speaks for a label map, its name is another's
    with an end, another file has its name, or it is stored as labels are (8 bits, a palette). It is a label map
    if it has few values, all whole, in patches. Of files with one name that are all like that, words decide.
    """
    stems = Counter(image_stem(path) for path in files)
    modes = {path: _mode(path) for path in files}
    colored = any(mode in ("RGB", "RGBA") for mode in modes.values())
    typed = {"P", "1", "8 bits"} | ({"L"} if colored else set[str]())
    found: list[Path] = []
    for path in files:
        stem = image_stem(path)
        named = (
            _has_label_word(path, root)
            or stems[stem] > 1
            or _extends_other_name(stem, stems)
            or _is_dicom_seg(path)
        )
        if (named or modes[path] in typed) and _is_label_map(path, *(_NAMED if named else _UNNAMED)):
            found.append(path)
    alike = Counter(image_stem(path) for path in found)
    doubtful = {stem for stem, count in alike.items() if 1 < count == stems[stem]}
    return [path for path in found if image_stem(path) not in doubtful or _has_label_word(path, root)]


def _has_label_word(path: Path, root: Path) -> bool:
    """Whether a word of the name, or of a folder's below ``root``, is one for label maps."""
    try:
        parts = path.parent.relative_to(root).parts
    except ValueError:
        parts = ()
    words = re.split(r"[^a-z0-9]+", "/".join((*parts, image_stem(path))).lower())
    return not _WORDS.isdisjoint(words)


def _extends_other_name(stem: str, stems: Counter[str]) -> bool:
    """Whether another file's name, a separator and something more make this name."""
    return any(stem[: found.start()] in stems for found in re.finditer(r"[_\-. ]", stem))


def _mode(path: Path) -> str:
    """How a file's voxels are stored, from its header: a picture's mode, ``8 bits`` of a volume, or empty."""
    name = path.name.lower()
    try:
        if name.endswith(PictureReader.suffixes):
            with Image.open(path) as picture:
                return picture.mode
        if name.endswith(NiftiReader.suffixes):
            image: nib.Nifti1Image = nib.load(path)  # pyright: ignore[reportAssignmentType]
            return "8 bits" if np.dtype(image.get_data_dtype()).itemsize == 1 else ""
    except Exception:  # a damaged file can make a parser raise anything; it fails when it is read
        return ""
    return ""


def _is_dicom_seg(path: Path) -> bool:
    return path.name.lower().endswith((".dcm", ".dicom")) and is_dicom_seg(path)


def _is_label_map(path: Path, most_values: int, least_share: float) -> bool:
    if _is_dicom_seg(path):
        return True
    try:
        array = read_scan(path).array
    except DataError:
        return False
    return looks_like_labels(array, most_values, least_share)


def looks_like_labels(array: Array, most_values: int, least_share: float) -> bool:
    """Whether voxels (C, *S) have few values, more than one, all whole, and lie in patches of one value.

    ``most_values``: how many at most. ``least_share``: of the voxels that are not of the most frequent value,
    at least this share has the value of a neighbor. Channels are taken together (colors); of volumes, planes.
    """
    voxels = _as_codes(array)
    if voxels is None:
        return False
    if voxels.ndim == 3 and voxels.shape[2] > _PLANES:
        some = voxels[..., np.linspace(0, voxels.shape[2] - 1, _PLANES).astype(int)]
        voxels = some if some.min() != some.max() else voxels
    values, counts = np.unique(voxels, return_counts=True)
    if not 1 < len(values) <= most_values:
        return False
    inside = voxels != values[np.argmax(counts)]
    alike = np.zeros(voxels.shape, dtype=bool)
    for axis in (0, 1):
        ahead, behind = (np.take(voxels, np.arange(voxels.shape[axis])[part], axis) for part in _PAIR)
        same = np.moveaxis(ahead == behind, axis, 0)
        along = np.moveaxis(alike, axis, 0)
        along[:-1] |= same
        along[1:] |= same
    return float(alike[inside].mean()) >= least_share


_PAIR = (slice(1, None), slice(None, -1))


def _as_codes(array: Array) -> Array | None:
    """(*S) whole numbers, one for each combination of channels; none if there are other numbers."""
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or (array != np.rint(array)).any() or np.abs(array).max() > 2**31:
            return None
    elif array.dtype.kind not in "bui":
        return None
    if len(array) == 1:
        return array[0]
    if len(array) > 4 or array.dtype != np.uint8:
        return None
    codes = np.zeros(array.shape[1:], np.int64)
    for channel in array:
        codes = codes * 256 + channel
    return codes
