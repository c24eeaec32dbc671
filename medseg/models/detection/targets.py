"""``DetectionTargets``: the annotated objects of one image, as a detector learns them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import find_objects

from medseg.geometry import Array


@dataclass(frozen=True)
class DetectionTargets:
    """Objects of one image.

    Attributes:
        boxes: (N, 2·D) float, in voxels.
        classes: (N,) int64, 1 or more.
        ids: (N,) int64, the objects' values in their label map.
        layers: (N,) int64, the label map of each object.
        label_maps: (L, *S) int64; several where objects overlap. 0 is background.
        ignored: (R, 2·D) boxes of regions, such as crowds, in which candidates are not background.
    """

    boxes: torch.Tensor
    classes: torch.Tensor
    ids: torch.Tensor
    layers: torch.Tensor
    label_maps: torch.Tensor
    ignored: torch.Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def class_map(self) -> torch.Tensor:
        """Return the class of each voxel: (*S) int64, 0 for background, -1 where voxels are ignored."""
        classes = self.label_maps.new_zeros(self.label_maps.shape[1:])
        for number, layer in enumerate(self.label_maps):
            own = self.layers == number
            values, index = torch.unique(layer, return_inverse=True)
            table = torch.where(values == 0, 0, -1)
            place = torch.searchsorted(values, self.ids[own])
            table[place] = self.classes[own]
            drawn = table[index]
            classes = torch.where(drawn != 0, drawn, classes)
        return classes

    def to(self, device: torch.device) -> DetectionTargets:
        """Copy the tensors to a device."""
        return DetectionTargets(**{name: tensor.to(device) for name, tensor in vars(self).items()})


def detection_targets(
    layers: Array, classes: Mapping[int, int] | None = None, *, smallest: int = 1
) -> DetectionTargets:
    """Find the objects of label maps.

    Args:
        layers: (L, *S) of ids, which need not be consecutive; 0 is background. A negative value is ignored, and
            so is the box around all voxels that have it.
        classes: id → class; None: every object is of class 1. Objects of class 0 or less are ignored.
        smallest: number of voxels below which an object is left out.

    Example:
        >>> targets = detection_targets(np.array([[[0, 7, 7], [0, 0, 7]]]))
        >>> targets.boxes.tolist(), targets.ids.tolist()
        ([[0.0, 1.0, 2.0, 3.0]], [7])
    """
    dims = layers.ndim - 1
    boxes: list[list[int]] = []
    rows: list[tuple[int, int, int]] = []
    ignored: list[list[int]] = []
    for number, layer in enumerate(layers):
        values, compact = np.unique(layer, return_inverse=True)
        compact = compact.reshape(layer.shape).astype(np.int32)
        counts = np.bincount(compact.ravel(), minlength=len(values))
        found = find_objects(compact + 1)
        for index, (value, place) in enumerate(zip(values.tolist(), found, strict=False)):
            if value == 0 or place is None or counts[index] < smallest:
                continue
            box = [axis.start for axis in place] + [axis.stop for axis in place]
            kind = 1 if classes is None else int(classes.get(value, 0))
            if value < 0 or kind < 1:
                ignored.append(box)
            else:
                boxes.append(box)
                rows.append((kind, value, number))
    table = torch.tensor(rows, dtype=torch.long).reshape(-1, 3)
    return DetectionTargets(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 2 * dims),
        classes=table[:, 0],
        ids=table[:, 1],
        layers=table[:, 2],
        label_maps=torch.from_numpy(np.ascontiguousarray(layers, dtype=np.int64)),
        ignored=torch.tensor(ignored, dtype=torch.float32).reshape(-1, 2 * dims),
    )


def batch_targets(objects: torch.Tensor, classes: torch.Tensor) -> list[DetectionTargets]:
    """Return the objects of each image of a batch.

    Args:
        objects: (B, L, *P) numbers of objects; 0 for none.
        classes: (B, 1, *P) class of each voxel, -1 where it is ignored. The class of an object is that of most
            of its voxels.
    """
    targets: list[DetectionTargets] = []
    for layers, kinds in zip(objects.numpy(force=True), classes[:, 0].numpy(force=True), strict=True):
        layers = np.where(kinds < 0, -1, layers)
        targets.append(detection_targets(layers, _majority(layers, kinds)))
    return targets


def _majority(layers: Array, kinds: Array) -> dict[int, int]:
    """Return the class that most voxels of each object have."""
    drawn = np.broadcast_to(kinds, layers.shape)
    inside = (layers > 0) & (drawn > 0)
    if not inside.any():
        return {}
    numbers, values = layers[inside].astype(np.int64), drawn[inside].astype(np.int64)
    step = int(values.max()) + 1
    pairs, counts = np.unique(numbers * step + values, return_counts=True)
    ascending = pairs[np.argsort(counts, kind="stable")]
    return dict(zip((ascending // step).tolist(), (ascending % step).tolist(), strict=True))
