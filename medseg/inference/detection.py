"""Objects of whole images by a detector: images that are too large go through it in overlapping windows."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np
import torch

from medseg.geometry import Array
from medseg.instances.result import Instances
from medseg.models.detection.boxes import volumes
from medseg.models.detection.detections import Detections, Detector
from medseg.models.detection.nms import nms
from medseg.system.device import autocast

_GRAPHS: Any = import_module("scipy.sparse.csgraph")
_LOGGER = logging.getLogger(__name__)

_WHOLE = {2: 2**22, 3: 2**21}
"""Voxels of an image up to which it goes through a detector at once, by the number of axes."""
_OVERLAP = 0.25
"""Share of a window that the next one repeats."""
_SAME = 0.5
"""IoU above which two boxes of a class, from different windows, are one object."""


@dataclass(frozen=True)
class DetectionRun:
    """How a detector is run.

    Attributes:
        network: the detector, in evaluation mode.
        device: the device that computes.
        dtype: of mixed precision; None for float32.
        score: least score of an object.
        most: voxels of an image that go through the network at once; by default about four million pixels or
            two million voxels.
    """

    network: Detector
    device: torch.device
    dtype: torch.dtype | None = None
    score: float = 0.0
    most: int | None = None

    @torch.inference_mode()
    def detect(self, image: Array) -> Detections:
        """Find the objects of an image (C, *S).

        Objects that every window cuts are searched again in a window around them.
        """
        size = image.shape[1:]
        windows = list(_windows(size, self.most or _WHOLE[len(size)]))
        parts = [self._detect_window(image, window) for window in windows]
        if len(windows) == 1:
            return parts[0][0].select(parts[0][0].scores >= self.score)
        found = _merge([whole for whole, _ in parts])
        missed = _merge([cut for _, cut in parts])
        missed = missed.select((missed.scores >= self.score) & ~_is_covered(missed.boxes, found.boxes))
        if len(missed):
            found = _merge([found, *self._search_again(image, missed, windows[0])])
        return found.select(found.scores >= self.score)

    def _search_again(
        self, image: Array, missed: Detections, window: tuple[slice, ...]
    ) -> Iterator[Detections]:
        """Yield objects in windows around groups of cut detections; of those too large for one, the parts."""
        sides = [side.stop - side.start for side in window]
        for group in _connected(missed.boxes):
            boxes, dims = missed.boxes[group], len(sides)
            corners: Array = boxes.numpy(force=True)
            lower, upper = corners[:, :dims].min(axis=0), corners[:, dims:].max(axis=0)
            if any(b - a > side - 2 for a, b, side in zip(lower, upper, sides, strict=True)):
                _LOGGER.warning(
                    "an object of about %s voxels is larger than the windows of the detector (%s): its parts "
                    "are separate objects", [round(b - a) for a, b in zip(lower, upper, strict=True)], sides,
                )  # fmt: skip
                yield missed.select(group)
                continue
            starts = [
                int(min(max((a + b - side) / 2, 0), n - side))
                for a, b, side, n in zip(lower, upper, sides, image.shape[1:], strict=True)
            ]
            around = tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))
            whole, _ = self._detect_window(image, around)
            yield whole.select(_is_covered(whole.boxes, boxes, share=0.1))

    def _detect_window(self, image: Array, window: tuple[slice, ...]) -> tuple[Detections, Detections]:
        """Return the objects of a window, with boxes in the image: those within it, and those that it cuts."""
        size = image.shape[1:]
        part = torch.as_tensor(np.ascontiguousarray(image[(slice(None), *window)], dtype=np.float32))
        with autocast(self.dtype, self.device):
            [found] = self.network(part[None].to(self.device))
        self._check_number(found)
        start = found.boxes.new_tensor([side.start for side in window] * 2)
        boxes = found.boxes + start
        cut = torch.zeros(len(found), dtype=torch.bool, device=boxes.device)
        for axis, side in enumerate(window):
            if side.start > 0:
                cut |= boxes[:, axis] < side.start + 1
            if side.stop < size[axis]:
                cut |= boxes[:, len(size) + axis] > side.stop - 1
        placed = replace(found, boxes=boxes, size=tuple(size))
        return placed.select(~cut), placed.select(cut)

    def _check_number(self, found: Detections) -> None:
        """Warn if a window may have more objects than the detector returns."""
        most = self.network.most_detections
        if self.score > 0 and len(found) >= most and bool((found.scores >= self.score).all()):
            _LOGGER.warning(
                "the detector returns at most %d objects of an image or window, and found as many: others may "
                "be missing. Train it with a larger model.box_head.detections (Mask R-CNN) or model.detections "
                "(Retina U-Net)", most,
            )  # fmt: skip


def _is_covered(boxes: torch.Tensor, others: torch.Tensor, share: float = 0.5) -> torch.Tensor:
    """Return whether each box (N, 2·D) lies by a share of its volume within one of the others (M, 2·D)."""
    if not len(boxes) or not len(others):
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    return (_shared(boxes, others) > share * volumes(boxes)[:, None]).any(dim=1)


def _shared(boxes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Return the volume that boxes (N, 2·D) share with others (M, 2·D): (N, M)."""
    dims = boxes.shape[1] // 2
    lower = torch.maximum(boxes[:, None, :dims], others[None, :, :dims])
    upper = torch.minimum(boxes[:, None, dims:], others[None, :, dims:])
    return (upper - lower).clamp(min=0).prod(dim=2)


def _connected(boxes: torch.Tensor) -> list[torch.Tensor]:
    """Return the indices of the boxes (N, 2·D) that overlap or touch, directly or by others, group by group."""
    dims = boxes.shape[1] // 2
    wider = torch.cat([boxes[:, :dims] - 1, boxes[:, dims:] + 1], dim=1)
    graph: Array = (_shared(wider, wider) > 0).numpy(force=True)
    groups = torch.as_tensor(_GRAPHS.connected_components(graph, directed=False)[1])
    return [torch.nonzero(groups == number)[:, 0] for number in range(int(groups.max()) + 1)]


def to_instances(found: Detections, spacing: Sequence[float]) -> Instances:
    """Convert detections to objects: their masks at a probability of 0.5; empty ones are left out.

    Args:
        found: detections of an image.
        spacing: distance between voxels, mm.
    """
    boxes: list[list[list[int]]] = []
    masks: list[Array] = []
    kept: list[int] = []
    for index in range(len(found)):
        place, probabilities = found.paste(index)
        mask = probabilities.numpy(force=True) >= 0.5
        if not mask.any():
            continue
        extent = [np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
                  for axis in range(mask.ndim)]  # fmt: skip
        inner = tuple(slice(int(one[0]), int(one[-1]) + 1) for one in extent)
        masks.append(mask[inner].copy())
        boxes.append([[side.start + one.start, side.start + one.stop]
                      for side, one in zip(place, inner, strict=True)])  # fmt: skip
        kept.append(index)
    return Instances(
        found.size,
        tuple(float(mm) for mm in spacing),
        np.array(boxes, np.int64).reshape(-1, len(found.size), 2),
        tuple(masks),
        found.classes.numpy(force=True)[kept].astype(np.int64),
        found.scores.numpy(force=True)[kept].astype(np.float64),
    )


def _windows(size: Sequence[int], most: int) -> Iterator[tuple[slice, ...]]:
    """Yield windows of at most ``most`` voxels that cover an image; one if the image is not larger."""
    sides = list(size)
    while math.prod(sides) > most:
        longest = sides.index(max(sides))
        sides[longest] = max(1, math.ceil(sides[longest] / 2))
    axes: list[list[slice]] = []
    for length, side in zip(size, sides, strict=True):
        count = 1 if side >= length else math.ceil((length - _OVERLAP * side) / ((1 - _OVERLAP) * side))
        starts = [round(k * (length - side) / max(1, count - 1)) for k in range(count)]
        axes.append([slice(start, start + side) for start in starts])
    yield from itertools.product(*axes)


def _merge(parts: Sequence[Detections]) -> Detections:
    """Unite the detections of windows; of an object that several windows found, the best score stays."""
    united = replace(
        parts[0],
        boxes=torch.cat([one.boxes for one in parts]),
        classes=torch.cat([one.classes for one in parts]),
        scores=torch.cat([one.scores for one in parts]),
        masks=torch.cat([one.masks for one in parts]),
    )
    return united.select(nms(united.boxes, united.scores, _SAME, groups=united.classes))
