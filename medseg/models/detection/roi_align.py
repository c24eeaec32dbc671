"""RoIAlign in 2D and 3D (He et al. 2017, arXiv:1703.06870, section 3), differentiable, over all levels at once.

The samples of a bin are a weighted sum of rows of one table that holds the feature vectors of every voxel of
every level: one ``embedding_bag``, which reads whole rows and has a fast gradient on CPUs and GPUs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

_MAX_READS = 1 << 24
"""Reads of a table that are planned at once: about 200 MB of indices and weights."""


class Regions(NamedTuple):
    """Regions of interest.

    Attributes:
        boxes: (N, 2·D) in voxels of the image.
        images: (N,) index of each box's image in the batch.
        levels: (N,) index of the feature map that each box is pooled from.
    """

    boxes: torch.Tensor
    images: torch.Tensor
    levels: torch.Tensor


class Samples(NamedTuple):
    """Sampling positions of regions along one axis.

    Attributes:
        voxel: (N, P, R) voxels that are read for each bin.
        weight: (N, P, R) their weights; 0 outside the image.
    """

    voxel: torch.Tensor
    weight: torch.Tensor


@dataclass(frozen=True)
class RoIAlign:
    """Pools features in boxes to a grid of bins, by linear interpolation at samples within each bin.

    Attributes:
        size: number of bins along each axis.
        samples: samples of a bin along each axis; 0: one per voxel that it covers, rounded up.
        aligned: shift boxes by half a voxel, so that they lie right on the features, as detectron2 does.
            torchvision's Mask R-CNN does not, and gives each box at least one voxel.

    Example:
        >>> features = [torch.arange(16.0).view(1, 1, 4, 4)]
        >>> one = torch.tensor([0])
        >>> regions = Regions(torch.tensor([[0.0, 0.0, 4.0, 4.0]]), one, one)
        >>> RoIAlign((2, 2), samples=2, aligned=True).pool(features, [(1, 1)], regions)
        tensor([[[[ 2.5000,  4.5000],
                  [10.5000, 12.5000]]]])
    """

    size: tuple[int, ...]
    samples: int = 2
    aligned: bool = False

    def pool(
        self, features: Sequence[torch.Tensor], strides: Sequence[Sequence[float]], regions: Regions
    ) -> torch.Tensor:
        """Pool features.

        Args:
            features: of each level, (B, C, *S).
            strides: of each level, voxels of the image per voxel along each axis.
            regions: N boxes.

        Returns:
            (N, C, *size).
        """
        table = torch.cat([_rows(level) for level in features])
        channels = table.shape[1]
        if not len(regions.boxes):
            return table.sum() * 0 + table.new_zeros((0, channels, *self.size))
        sizes = [tuple(level.shape[2:]) for level in features]
        parts = [
            F.embedding_bag(index, table, per_sample_weights=weight.to(table.dtype), mode="sum")
            for index, weight in self._reads(sizes, strides, regions, len(features[0]))
        ]
        pooled = torch.cat(parts).view(len(regions.boxes), *self.size, channels)
        return pooled.movedim(-1, 1).contiguous()

    def pool_ids(self, label_maps: torch.Tensor, regions: Regions, ids: torch.Tensor) -> torch.Tensor:
        """Pool the mask of one object in each region.

        Args:
            label_maps: (B, *S) of ids.
            regions: N boxes; the levels are not used.
            ids: (N,) id of each region's object.

        Returns:
            (N, *size) share of the samples that lie in the object.
        """
        if not len(ids):
            return torch.zeros((0, *self.size), device=ids.device)
        sizes, strides = [tuple(label_maps.shape[1:])], [(1.0,) * len(self.size)]
        regions = regions._replace(levels=torch.zeros_like(regions.images))
        flat, bins, masks = label_maps.reshape(-1), math.prod(self.size), []
        expected = ids.repeat_interleave(bins)
        start = 0
        for index, weight in self._reads(sizes, strides, regions, len(label_maps)):
            inside = flat[index] == expected[start : start + len(index), None]
            masks.append((weight * inside).sum(dim=1))
            start += len(index)
        return torch.cat(masks).view(len(ids), *self.size)

    def _reads(
        self,
        sizes: Sequence[tuple[int, ...]],
        strides: Sequence[Sequence[float]],
        regions: Regions,
        batch: int,
    ):
        """Yield rows (M, R) of the table and their weights, for bins of some regions at a time."""
        dims, boxes, levels = len(self.size), regions.boxes.float(), regions.levels
        counts = torch.tensor([math.prod(size) for size in sizes], device=boxes.device)
        starts = (counts.cumsum(0) - counts) * batch
        base = starts[levels] + regions.images * counts[levels]
        extents = torch.tensor(sizes, device=boxes.device)[levels]
        stride = torch.tensor([list(s) for s in strides], dtype=boxes.dtype, device=boxes.device)[levels]
        boxes = boxes / torch.cat([stride, stride], dim=1)
        axes = [
            self._axis(boxes[:, axis], boxes[:, dims + axis], extents[:, axis], axis) for axis in range(dims)
        ]
        reads = math.prod(self.size) * math.prod(axis.voxel.shape[2] for axis in axes)
        step = max(1, _MAX_READS // reads)
        for start in range(0, len(boxes), step):
            part = slice(start, start + step)
            chosen = [Samples(axis.voxel[part], axis.weight[part]) for axis in axes]
            yield _combine(chosen, extents[part], base[part])

    def _axis(self, lower: torch.Tensor, upper: torch.Tensor, extent: torch.Tensor, axis: int) -> Samples:
        """Plan the samples of boxes from ``lower`` to ``upper`` (N,) along one axis of ``extent`` voxels."""
        bins = self.size[axis]
        if self.aligned:
            lower, upper = lower - 0.5, upper - 0.5
        length = upper - lower if self.aligned else (upper - lower).clamp(min=1)
        width = (length / bins)[:, None, None]
        count = torch.full_like(lower, self.samples) if self.samples else width[:, 0, 0].ceil().clamp(min=1)
        number = torch.arange(int(count.max()), device=lower.device, dtype=lower.dtype)
        count = count[:, None, None]
        first = lower[:, None, None] + torch.arange(bins, device=lower.device)[:, None] * width
        position = first + (number + 0.5) * width / count
        extent = extent[:, None, None]
        inside = (number < count) & (position >= -1) & (position <= extent)
        position = torch.minimum(position.clamp(min=0), extent - 1.0)
        floor = position.floor()
        above = position - floor
        index = floor.long()
        share = inside / count
        following = torch.minimum(index + 1, extent - 1)
        return Samples(
            torch.cat([index, following], dim=2), torch.cat([(1 - above) * share, above * share], dim=2)
        )


def _rows(features: torch.Tensor) -> torch.Tensor:
    """Return the feature vectors of (B, C, *S) as rows (B·|S|, C)."""
    return features.movedim(1, -1).reshape(-1, features.shape[1])


def _combine(
    axes: Sequence[Samples], extents: torch.Tensor, base: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Combine the samples of all axes.

    Args:
        axes: (N, P, R) of each axis.
        extents: (N, D) size of each region's feature map.
        base: (N,) first row of each region's feature map.

    Returns:
        Rows and weights, both (N·P·P…, R·R…).
    """
    dims, count = len(axes), len(base)
    index = base.view(count, *(1,) * (2 * dims))
    weight: torch.Tensor | None = None
    for number, axis in enumerate(axes):
        shape = [count] + [1] * (2 * dims)
        shape[1 + number], shape[1 + dims + number] = axis.voxel.shape[1:]
        step = extents[:, number + 1 :].prod(dim=1).view(count, *(1,) * (2 * dims))
        index = index + axis.voxel.view(shape) * step
        weight = axis.weight.view(shape) if weight is None else weight * axis.weight.view(shape)
    assert weight is not None
    reads = math.prod(axis.voxel.shape[2] for axis in axes)
    return index.reshape(-1, reads), weight.reshape(-1, reads)
