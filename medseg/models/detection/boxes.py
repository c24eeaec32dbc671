"""Axis-aligned boxes in 2D and 3D: overlaps, clipping, and the coding of one box relative to another.

A box has 2·D numbers: its lower corner, then its upper corner, in the order of the array's axes and in voxels.
Voxel i covers [i, i + 1), so that the box of voxels 2 to 4 is [2, 5].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

_MAX_LOG_SCALE = math.log(1000 / 16)
"""Largest decoded logarithm of a ratio of sides (Detectron, torchvision)."""


def volumes(boxes: torch.Tensor) -> torch.Tensor:
    """Return the areas or volumes of boxes (..., 2·D): (...)."""
    lower, upper = boxes.chunk(2, dim=-1)
    return (upper - lower).prod(dim=-1)


def box_iou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the intersection over union of every pair of boxes.

    Args:
        first: (N, 2·D).
        second: (M, 2·D).

    Returns:
        (N, M); 0 for two boxes without volume.

    Example:
        >>> box_iou(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[0.0, 1.0, 2.0, 3.0]])).item()
        0.3333333432674408
    """
    shared, union = _shared_and_union(first, second)
    return torch.where(union > 0, shared / union, 0.0)


def generalized_iou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the generalized intersection over union of every pair of boxes (Rezatofighi et al. 2019).

    Args:
        first: (N, 2·D).
        second: (M, 2·D).

    Returns:
        (N, M), between -1 and 1: IoU less the share of the enclosing box that belongs to neither.
    """
    shared, union = _shared_and_union(first, second)
    return _generalize(shared, union, _enclosing(first[:, None], second[None]))


def paired_generalized_iou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the generalized IoU of boxes of equal rank: (N, 2·D) and (N, 2·D) to (N,)."""
    shared = _shared(first, second)
    union = volumes(first) + volumes(second) - shared
    return _generalize(shared, union, _enclosing(first, second))


def covered_share(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return which share of each of ``first`` (N, 2·D) lies in each of ``second`` (M, 2·D): (N, M)."""
    return _shared(first[:, None], second[None]) / volumes(first)[:, None].clamp(min=1e-12)


def clip_boxes(boxes: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Clip boxes (..., 2·D) to an image of ``size``."""
    limit = boxes.new_tensor([*size, *size])
    return boxes.clamp(min=0).minimum(limit)


def has_sides(boxes: torch.Tensor, least: float) -> torch.Tensor:
    """Return which of ``boxes`` (..., 2·D) have no side shorter than ``least``: (...) bool."""
    lower, upper = boxes.chunk(2, dim=-1)
    return (upper - lower >= least).all(dim=-1)


@dataclass(frozen=True)
class BoxCoder:
    """Codes a box relative to an anchor: shift of its center in sides, and logarithm of the ratio of sides.

    Source: Girshick et al. 2014, arXiv:1311.2524, appendix C; the weights scale the codes to about unit
    variance.

    Attributes:
        center: weight of the shifts.
        side: weight of the ratios.
    """

    center: float = 1.0
    side: float = 1.0

    def encode(self, boxes: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
        """Code ``boxes`` (..., 2·D) relative to ``anchors`` of the same shape: shifts, then ratios."""
        box_center, box_side = _center_and_side(boxes)
        center, side = _center_and_side(anchors)
        shift = self.center * (box_center - center) / side
        return torch.cat([shift, self.side * (box_side / side).log()], dim=-1)

    def decode(self, codes: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
        """Return the boxes that ``codes`` (..., 2·D) mean relative to ``anchors`` (broadcast)."""
        center, side = _center_and_side(anchors)
        shift, ratio = codes.chunk(2, dim=-1)
        center = center + shift / self.center * side
        half = 0.5 * side * (ratio / self.side).clamp(max=_MAX_LOG_SCALE).exp()
        return torch.cat([center - half, center + half], dim=-1)


def _center_and_side(boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    lower, upper = boxes.chunk(2, dim=-1)
    side = upper - lower
    return lower + 0.5 * side, side


def _shared(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the shared volume of boxes (..., 2·D) that broadcast; axis by axis, for less memory."""
    dims = first.shape[-1] // 2
    shared: torch.Tensor | None = None
    for axis in range(dims):
        upper = torch.minimum(first[..., dims + axis], second[..., dims + axis])
        length = (upper - torch.maximum(first[..., axis], second[..., axis])).clamp(min=0)
        shared = length if shared is None else shared * length
    assert shared is not None
    return shared


def _shared_and_union(first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    shared = _shared(first[:, None], second[None])
    return shared, volumes(first)[:, None] + volumes(second)[None] - shared


def _enclosing(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the volumes of the smallest boxes around pairs of boxes that broadcast."""
    dims = first.shape[-1] // 2
    lower = torch.minimum(first[..., :dims], second[..., :dims])
    return (torch.maximum(first[..., dims:], second[..., dims:]) - lower).prod(dim=-1)


def _generalize(shared: torch.Tensor, union: torch.Tensor, enclosing: torch.Tensor) -> torch.Tensor:
    least = torch.finfo(union.dtype).tiny
    return shared / union.clamp(min=least) - (enclosing - union) / enclosing.clamp(min=least)
