"""Matching of candidate boxes to objects, and sampling of those that a loss uses."""

from __future__ import annotations

from typing import NamedTuple

import torch

BACKGROUND = -1
"""Index of a candidate that belongs to no object."""
BETWEEN = -2
"""Index of a candidate that is neither an object nor background, and is not sampled."""


class Sample(NamedTuple):
    """Candidates that a loss uses.

    Attributes:
        positive: (P,) indices of the candidates that belong to an object.
        negative: (Q,) indices of background candidates.
    """

    positive: torch.Tensor
    negative: torch.Tensor

    @property
    def all(self) -> torch.Tensor:
        """(P + Q,) both."""
        return torch.cat([self.positive, self.negative])


def match_by_iou(
    iou: torch.Tensor, positive: float, negative: float, *, keep_best: bool = False
) -> torch.Tensor:
    """Match each candidate to the object that it overlaps most.

    Args:
        iou: (G, N) of G objects and N candidates.
        positive: least IoU of a match.
        negative: IoU below which a candidate is background; between the two, it is ignored.
        keep_best: also match the candidates that overlap an object most of all, however little (Ren et al.
            2015, arXiv:1506.01497, section 3.1.2). A candidate without any overlap is never matched.

    Returns:
        (N,) index of the object, ``BACKGROUND`` or ``BETWEEN``.
    """
    objects, candidates = iou.shape
    if not objects:
        return torch.full((candidates,), BACKGROUND, dtype=torch.long, device=iou.device)
    values, best = iou.max(dim=0)
    matches = torch.where(values >= positive, best, BETWEEN)
    matches[values < negative] = BACKGROUND
    if keep_best and candidates:
        highest = iou.amax(dim=1, keepdim=True)
        wanted = ((iou == highest) & (highest > 0)).any(dim=0)
        matches[wanted] = best[wanted]
    return matches


def match_adaptively(
    iou: torch.Tensor, distances: torch.Tensor, inside: torch.Tensor, levels: list[int], candidates: int = 4
) -> torch.Tensor:
    """Match anchors to objects by statistics of each object (ATSS, Zhang et al. 2020, arXiv:1912.02424).

    The anchors of each level nearest to an object are its candidates; those whose IoU is at least the mean plus
    the standard deviation over the candidates, and whose center lies in the object, are matched to it. An
    anchor of several objects belongs to the one that it overlaps most.

    Args:
        iou: (G, N) of G objects and N anchors.
        distances: (G, N) between their centers.
        inside: (G, N) whether the anchor's center lies in the object's box.
        levels: number of anchors of each level; they sum to N.
        candidates: number of positions of a level that are candidates.

    Returns:
        (N,) index of the object, or ``BACKGROUND``.
    """
    objects, anchors = iou.shape
    if not objects:
        return torch.full((anchors,), BACKGROUND, dtype=torch.long, device=iou.device)
    start, chosen = 0, []
    for count in levels:
        near = distances[:, start : start + count].topk(min(candidates, count), dim=1, largest=False)
        chosen.append(near.indices + start)
        start += count
    index = torch.cat(chosen, dim=1)
    values = iou.gather(1, index)
    spread = values.std(dim=1, keepdim=True) if values.shape[1] > 1 else 0.0
    threshold = values.mean(dim=1, keepdim=True) + spread
    wanted = (values >= threshold) & (values > 0) & inside.gather(1, index)
    # an object that no anchor's center lies in keeps its best candidate
    best = torch.nn.functional.one_hot(values.argmax(dim=1), values.shape[1]).bool()
    wanted |= best & (values > 0) & ~wanted.any(dim=1, keepdim=True)
    overlaps = torch.full_like(iou, -1.0).scatter(1, index, torch.where(wanted, values, -1.0))
    most, match = overlaps.max(dim=0)
    return torch.where(most >= 0, match, BACKGROUND)


def sample_balanced(matches: torch.Tensor, count: int, positive_share: float) -> Sample:
    """Draw candidates at random.

    Args:
        matches: (N,) of :func:`match_by_iou`.
        count: number of candidates.
        positive_share: most of them that may be positive; background fills up the rest.
    """
    positive, negative = (matches >= 0).nonzero()[:, 0], (matches == BACKGROUND).nonzero()[:, 0]
    positive = _draw(positive, min(len(positive), int(count * positive_share)))
    return Sample(positive, _draw(negative, min(len(negative), count - len(positive))))


def sample_hard(matches: torch.Tensor, scores: torch.Tensor, count: int, positive_share: float) -> Sample:
    """Draw positive candidates at random, and background at random among that of the highest scores.

    Background is drawn from the 20 times as many candidates of the highest scores (Baumgartner et al. 2021,
    arXiv:2106.00817).

    Args:
        matches: (N,) of :func:`match_adaptively`.
        scores: (N,) of the candidates.
        count: number of candidates.
        positive_share: most of them that may be positive.
    """
    positive, negative = (matches >= 0).nonzero()[:, 0], (matches == BACKGROUND).nonzero()[:, 0]
    positive = _draw(positive, min(len(positive), max(1, int(count * positive_share))))
    wanted = min(len(negative), max(1, count - len(positive)))
    hard = negative[scores[negative].topk(min(len(negative), 20 * wanted)).indices]
    return Sample(positive, _draw(hard, wanted))


def _draw(indices: torch.Tensor, count: int) -> torch.Tensor:
    """Draw ``count`` of ``indices`` at random."""
    return indices[torch.randperm(len(indices), device=indices.device)[:count]]
