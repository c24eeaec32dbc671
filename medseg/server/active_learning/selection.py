"""The choice of images to label: at random, different ones, or ones that a model is unsure of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from medseg.geometry import Array
from medseg.server.active_learning.descriptors import farthest

Strategy = Literal["random", "diversity", "uncertainty"]
STRATEGIES: dict[Strategy, str] = {
    "random": "any image",
    "diversity": "the image that differs most from the labeled ones",
    "uncertainty": "the image on which mirrored views or the members of an ensemble disagree most",
}
"""Name → description."""
_POOL = 3
"""Uncertain candidates among which different ones are chosen, for each image that is wanted."""

Describe = Callable[[str], tuple[Array, Array]]
Score = Callable[[str], float]


def select_cases(
    strategy: Strategy,
    candidates: Sequence[str],
    labeled: Sequence[str],
    count: int,
    rng: np.random.Generator,
    *,
    describe: Describe,
    score: Score | None = None,
) -> list[str]:
    """Choose images to label.

    ``uncertainty`` takes the candidates with the highest scores, and of three times as many as are wanted those
    that differ most, because images on which a model fails in the same way teach the same.

    Args:
        strategy: how to choose; ``uncertainty`` without scores is ``diversity``.
        candidates: ids to choose from.
        labeled: ids of labeled images.
        count: how many to choose.
        rng: source of random numbers.
        describe: id → description (:func:`medseg.server.active_learning.descriptors.describe_scan`).
        score: id → uncertainty.
    """
    mixed = [candidates[int(index)] for index in rng.permutation(len(candidates))]
    if strategy == "random" or len(mixed) <= count:
        return mixed[:count]
    if strategy == "diversity" or score is None:
        return farthest({id: describe(id) for id in (*mixed, *labeled)}, mixed, labeled, count)
    ranked = sorted(mixed, key=score, reverse=True)
    if count == 1:
        return ranked[:1]
    pool = ranked[: _POOL * count]
    first = pool[:1]
    described = {id: describe(id) for id in pool}
    return [*first, *farthest(described, pool[1:], first, count - 1)]
