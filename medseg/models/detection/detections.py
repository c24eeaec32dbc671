"""``Detections``: the objects that a detector finds in one image; ``Detector``: base class of detectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from medseg.models.detection.boxes import clip_boxes
from medseg.models.detection.targets import DetectionTargets
from medseg.models.layers.padding import resize_linear

Pasting = Literal["exact", "rounded"]
"""``exact``: a mask is interpolated at the centers of voxels. ``rounded``: the box is first widened to whole
voxels, as torchvision does."""


@dataclass(frozen=True)
class Detections:
    """Objects found in one image, by decreasing score.

    Attributes:
        boxes: (N, 2·D) in voxels.
        classes: (N,) int64, 1 or more.
        scores: (N,) probability of the class.
        masks: (N, *M) probability of belonging to the object, on a grid over its box.
        size: of the image.
        pasting: how masks are drawn into the image.
    """

    boxes: torch.Tensor
    classes: torch.Tensor
    scores: torch.Tensor
    masks: torch.Tensor
    size: tuple[int, ...]
    pasting: Pasting = "exact"

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, index: torch.Tensor) -> Detections:
        """Return the detections at ``index``: (M,) indices, or (N,) bool."""
        return replace(
            self, boxes=self.boxes[index], classes=self.classes[index], scores=self.scores[index],
            masks=self.masks[index],
        )  # fmt: skip

    def resized(self, size: Sequence[int]) -> Detections:
        """Return the detections in the same image of another size."""
        factors = [new / old for new, old in zip(size, self.size, strict=True)]
        boxes = self.boxes * self.boxes.new_tensor(factors + factors)
        return replace(self, boxes=boxes, size=tuple(size))

    def paste(self, index: int) -> tuple[tuple[slice, ...], torch.Tensor]:
        """Return where in the image an object's box lies, and its mask there: probabilities per voxel."""
        box, mask = self.boxes[index], self.masks[index]
        return (
            _paste_rounded(mask, box, self.size)
            if self.pasting == "rounded"
            else _paste_exact(mask, box, self.size)
        )

    def full_masks(self) -> torch.Tensor:
        """Return the masks in the image: (N, *S) probabilities. Memory: N times the image's."""
        whole = self.masks.new_zeros((len(self), *self.size))
        for index in range(len(self)):
            place, mask = self.paste(index)
            whole[(index, *place)] = mask
        return whole

    def label_map(self, *, threshold: float = 0.5, visible: float = 0.5) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw the objects into one label map; where they overlap, the one of the higher score wins.

        Args:
            threshold: probability from which a voxel belongs to an object.
            visible: share of an object's voxels that must not be covered by others; otherwise it is left out
                (Kirillov et al. 2019, arXiv:1801.00868, section 5).

        Returns:
            (*S) int32: 0, or 1 + the rank of the object among those drawn; and their indices.
        """
        label_map = torch.zeros(self.size, dtype=torch.int32, device=self.masks.device)
        drawn: list[int] = []
        for index in self.scores.argsort(descending=True, stable=True).tolist():
            place, mask = self.paste(index)
            inside, part = mask >= threshold, label_map[place]
            free = inside & (part == 0)
            if not bool(free.any()) or int(free.sum()) < visible * int(inside.sum()):
                continue
            drawn.append(index)
            part[free] = len(drawn)
        return label_map, torch.tensor(drawn, dtype=torch.long)


class Detector(nn.Module):
    """Base class of detectors.

    Shapes: images (B, C, *S) to a list of B ``Detections``; in training, with a list of B ``DetectionTargets``,
    to the losses by name, whose sum is trained.

    Attributes:
        config: its settings, with planned anchors.
        spatial_dims: 2 or 3.
        uses_all_weights: whether the losses depend on all weights in every update.
        most_detections: of an image.
    """

    config: Any
    spatial_dims: int
    uses_all_weights = False
    most_detections = 100

    def forward(
        self, images: torch.Tensor, targets: Sequence[DetectionTargets] | None = None
    ) -> list[Detections] | dict[str, torch.Tensor]:
        if not self.training:
            return self.detect(images)
        if targets is None:
            raise ValueError(
                f"in training, {type(self).__name__} needs the objects of each image: network(images, targets)"
            )
        return self.losses(images, targets)

    def detect(self, images: torch.Tensor) -> list[Detections]:
        """Find the objects of images (B, C, *S)."""
        raise NotImplementedError(f"{type(self).__name__} does not implement detect")

    def losses(self, images: torch.Tensor, targets: Sequence[DetectionTargets]) -> dict[str, torch.Tensor]:
        """Return the losses of images (B, C, *S) and their objects."""
        raise NotImplementedError(f"{type(self).__name__} does not implement losses")


def _paste_exact(
    mask: torch.Tensor, box: torch.Tensor, size: tuple[int, ...]
) -> tuple[tuple[slice, ...], torch.Tensor]:
    """Interpolate a mask at the centers of the voxels in its box, axis by axis."""
    dims = len(size)
    clipped = clip_boxes(box, size).tolist()
    place: list[slice] = []
    for axis in range(dims):
        start = int(clipped[axis] + 0.5)
        stop = max(start, int(clipped[dims + axis] + 0.5))  # centers in [lower, upper)
        place.append(slice(start, stop))
        low, high = float(box[axis]), float(box[dims + axis])
        cells = mask.shape[axis]
        centers = torch.arange(start, stop, device=mask.device) + 0.5
        position = (centers - low) / max(high - low, 1e-6) * cells - 0.5
        position = position.clamp(0, cells - 1)
        floor = position.floor().long()
        following = (floor + 1).clamp(max=cells - 1)
        above = (position - floor).view(*(-1 if a == axis else 1 for a in range(dims)))
        mask = mask.index_select(axis, floor) * (1 - above) + mask.index_select(axis, following) * above
    return tuple(place), mask


def _paste_rounded(
    mask: torch.Tensor, box: torch.Tensor, size: tuple[int, ...]
) -> tuple[tuple[slice, ...], torch.Tensor]:
    """Pad a mask by one cell, widen its box alike, round it to whole voxels and interpolate."""
    dims = len(size)
    lower, upper = box[:dims], box[dims:]
    cells = torch.tensor(mask.shape, device=box.device)
    half, center = (upper - lower) * 0.5 * ((cells + 2) / cells), (upper + lower) * 0.5
    start, stop = (center - half).long().tolist(), (center + half).long().tolist()
    sides = [max(1, last - first + 1) for first, last in zip(start, stop, strict=True)]
    padded = F.pad(mask, (1, 1) * dims)
    drawn = resize_linear(padded[None, None], sides)[0, 0]
    place: list[slice] = []
    for axis, (first, length) in enumerate(zip(start, sides, strict=True)):
        begin, end = max(first, 0), min(first + length, size[axis])
        begin = min(begin, max(end, 0))
        drawn = drawn.narrow(axis, min(begin - first, length), max(0, end - begin))
        place.append(slice(begin, max(begin, end)))
    return tuple(place), drawn
