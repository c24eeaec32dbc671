"""Objects of whole images by a detector: images that are too large go through it in overlapping windows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from medseg.geometry import Array
from medseg.instances.result import Instances
from medseg.models.detection.detections import Detections, Detector
from medseg.models.detection.nms import nms
from medseg.system.device import autocast

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
        """Find the objects of an image (C, *S)."""
        size = image.shape[1:]
        most = self.most or _WHOLE[len(size)]
        parts = [self._detect_window(image, window) for window in _windows(size, most)]
        found = parts[0] if len(parts) == 1 else _merge(parts)
        return found.select(found.scores >= self.score)

    def _detect_window(self, image: Array, window: tuple[slice, ...]) -> Detections:
        """Return the objects of a window, with boxes in the image; those that it cuts are left out."""
        size = image.shape[1:]
        part = torch.as_tensor(np.ascontiguousarray(image[(slice(None), *window)], dtype=np.float32))
        with autocast(self.dtype, self.device):
            [found] = self.network(part[None].to(self.device))
        start = found.boxes.new_tensor([side.start for side in window] * 2)
        boxes = found.boxes + start
        cut = torch.zeros(len(found), dtype=torch.bool, device=boxes.device)
        for axis, side in enumerate(window):
            if side.start > 0:
                cut |= boxes[:, axis] < side.start + 1
            if side.stop < size[axis]:
                cut |= boxes[:, len(size) + axis] > side.stop - 1
        return replace(found, boxes=boxes, size=tuple(size)).select(~cut)


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
