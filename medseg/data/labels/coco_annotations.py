"""COCO annotations: polygons and run lengths painted into label maps (Lin et al. 2014, arXiv:1405.0312)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from medseg.errors import DataError
from medseg.files import sha256_json
from medseg.geometry import Array


@dataclass(frozen=True)
class CocoIndex:
    """An annotation file: images by number, categories by value, annotations by image."""

    images: dict[int, str]
    sizes: dict[int, tuple[int, int]]
    categories: dict[int, str]
    annotations: dict[int, list[dict[str, Any]]]


def coco_index(path: Path) -> CocoIndex:
    """Read an annotation file; it is kept in memory for the next of its images.

    Raises: DataError if it is no COCO JSON.
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
            f"({type(error).__name__}: {error})"
        ) from error
    return CocoIndex(images, sizes, categories, dict(annotations))


def coco_masks(path: Path, number: int) -> Iterator[tuple[int, Array]]:
    """The instances of one image, the largest first: category value and mask (H, W) bool.

    Raises: DataError naming file and annotation if the image is not listed or a segmentation is damaged.
    """
    index = coco_index(path)
    if number not in index.images:
        raise DataError(f"{path}: lists no image with id {number}")
    height, width = index.sizes[number]
    masks: list[tuple[int, Array]] = []
    for entry in index.annotations.get(number, []):
        try:
            mask = _mask(entry["segmentation"], height, width)
            masks.append((int(entry["category_id"]), mask))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            where = f"{path}: annotation {entry.get('id')} of image {number}"
            raise DataError(f"{where}: its segmentation is no polygon and no run length ({error})") from error
    return iter(sorted(masks, key=lambda pair: -int(pair[1].sum())))


def coco_digest(path: Path, number: int) -> str:
    """The SHA-256 of what a file states of one image: its size and its annotations.

    Raises: DataError if it is no COCO JSON.
    """
    index = coco_index(path)
    return sha256_json([index.sizes.get(number), index.annotations.get(number, [])])


def _mask(segmentation: Any, height: int, width: int) -> Array:
    """A mask from polygons [[x, y, x, y, …], …], or from run lengths, plain or compressed."""
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
        raise ValueError(f"its mask is {mask.shape}, the image {(height, width)}")
    return mask
