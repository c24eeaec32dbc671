"""COCO annotations: masks of instances from polygons and run lengths (Lin et al. 2014, arXiv:1405.0312)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from medseg.errors import DataError
from medseg.files import sha256_json
from medseg.geometry import Array


@dataclass(frozen=True)
class CocoIndex:
    """Content of an annotation file.

    Attributes:
        images: image id → file name.
        sizes: image id → height and width, pixels.
        categories: category id → name.
        annotations: image id → its annotations, as in the file.
    """

    images: dict[int, str]
    sizes: dict[int, tuple[int, int]]
    categories: dict[int, str]
    annotations: dict[int, list[dict[str, Any]]]


def read_coco_index(path: Path) -> CocoIndex:
    """Read an annotation file; the last few files are kept in memory.

    Raises:
        DataError: the file is not COCO JSON.
    """
    status = Path(path).stat()
    return _index(Path(path), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)  # training, validation, test, and one more
def _index(path: Path, modified: int, size: int) -> CocoIndex:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        images = {int(e["id"]): str(e["file_name"]) for e in content["images"]}
        sizes = {int(e["id"]): (int(e["height"]), int(e["width"])) for e in content["images"]}
        categories = {int(e["id"]): str(e["name"]) for e in content["categories"]}
        annotations: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for entry in content["annotations"]:
            annotations[int(entry["image_id"])].append(entry)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: expected COCO JSON with images, categories and annotations "
            f"({type(error).__name__}: {error})",
            path=path,
        ) from error
    return CocoIndex(images, sizes, categories, dict(annotations))


class CocoObject(NamedTuple):
    """One annotation.

    Attributes:
        category: id of the category.
        mask: (H, W) bool.
        is_crowd: whether it is a group of objects that were not annotated one by one.
    """

    category: int
    mask: Array
    is_crowd: bool


def read_coco_objects(path: Path, number: int) -> Iterator[CocoObject]:
    """Read the instances of one image, the largest first.

    Args:
        path: the annotation file.
        number: id of the image.

    Returns:
        The annotations.

    Raises:
        DataError: the file does not list the image, or a segmentation is invalid.
    """
    index = read_coco_index(path)
    if number not in index.images:
        raise DataError(f"{path}: lists no image with id {number}", path=path)
    height, width = index.sizes[number]
    objects: list[CocoObject] = []
    for entry in index.annotations.get(number, []):
        try:
            mask = _mask(entry["segmentation"], height, width)
            objects.append(CocoObject(int(entry["category_id"]), mask, bool(entry.get("iscrowd", 0))))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            where = f"{path}: annotation {entry.get('id')} of image {number}"
            raise DataError(
                f"{where}: the segmentation is neither a polygon nor a run length ({error})", path=path
            ) from error
    return iter(sorted(objects, key=lambda one: -int(one.mask.sum())))


def coco_digest(path: Path, number: int) -> str:
    """Return the SHA-256 of the entries of one image: its size and its annotations.

    Raises:
        DataError: the file is not COCO JSON.
    """
    index = read_coco_index(path)
    return sha256_json([index.sizes.get(number), index.annotations.get(number, [])])


def _mask(segmentation: Any, height: int, width: int) -> Array:
    """Draw a mask from polygons [[x, y, x, y, …], …], or from run lengths, plain or compressed."""
    if isinstance(segmentation, list):
        if any(len(p) % 2 or not all(isinstance(n, int | float) for n in p) for p in segmentation):
            raise ValueError("expected pairs of numbers")
        polygons = [p for p in segmentation if len(p) >= 6]  # fewer than three points enclose nothing
        if not polygons:
            return np.zeros((height, width), dtype=bool)
        encoded: Any = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    elif isinstance(segmentation["counts"], list):
        encoded = coco_mask.frPyObjects(segmentation, height, width)
    else:
        encoded = segmentation
    mask = np.asarray(coco_mask.decode(encoded)).astype(bool)
    if mask.shape != (height, width):
        raise ValueError(f"the mask has the shape {mask.shape}, the image {(height, width)}")
    return mask
