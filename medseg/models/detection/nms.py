"""Non-maximum suppression in 2D and 3D, exact and vectorized."""

from __future__ import annotations

import torch

from medseg.models.detection.boxes import box_iou

_BLOCK = 256
"""Candidates that are compared with each other at once."""


def nms(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    threshold: float,
    *,
    groups: torch.Tensor | None = None,
    limit: int | None = None,
) -> torch.Tensor:
    """Select boxes greedily by score; a selected box suppresses those that overlap it by more than a threshold.

    Candidates are visited in blocks by decreasing score: each block is compared with the boxes selected so
    far, then with itself. Time is O(n·k) for n candidates and k selected boxes.

    Args:
        boxes: (N, 2·D).
        scores: (N,); of equal scores, the first box comes first.
        threshold: intersection over union above which a box is suppressed.
        groups: (N,) int; a box suppresses only boxes of its group. None: there is one group.
        limit: number of boxes after which to stop.

    Returns:
        Indices of the selected boxes by decreasing score.

    Example:
        >>> boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 1.0, 4.0, 4.0], [8.0, 8.0, 9.0, 9.0]])
        >>> nms(boxes, torch.tensor([0.5, 0.9, 0.7]), 0.5).tolist()
        [1, 2]
    """
    order = scores.argsort(descending=True, stable=True)
    boxes = boxes[order].float()
    groups = torch.zeros_like(order) if groups is None else groups[order]
    selected = order.new_empty(0)
    for start in range(0, len(order), _BLOCK):
        block = torch.arange(start, min(start + _BLOCK, len(order)), device=boxes.device)
        if len(selected):
            block = block[~_overlaps(boxes, groups, selected, block, threshold).any(dim=0)]
        rivals = _overlaps(boxes, groups, block, block, threshold).triu(1)
        selected = torch.cat([selected, block[_greedy(rivals)]])
        if limit is not None and len(selected) >= limit:
            break
    return order[selected[:limit]]


def _overlaps(
    boxes: torch.Tensor, groups: torch.Tensor, first: torch.Tensor, second: torch.Tensor, threshold: float
) -> torch.Tensor:
    """Return which of the boxes ``first`` overlap which of ``second`` in the same group: (N, M) bool."""
    return (box_iou(boxes[first], boxes[second]) > threshold) & (groups[first, None] == groups[second])


def _greedy(suppresses: torch.Tensor) -> torch.Tensor:
    """Solve the greedy selection: a box is kept if no kept box before it suppresses it.

    Every pass settles at least one more box, so that the iteration reaches the only solution.

    Args:
        suppresses: (N, N) bool, upper triangular.
    """
    keep = torch.ones(len(suppresses), dtype=torch.bool, device=suppresses.device)
    while True:
        settled = ~(suppresses & keep[:, None]).any(dim=0)
        if torch.equal(settled, keep):
            return keep
        keep = settled
