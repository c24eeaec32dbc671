"""Sampling of training patches: from which case, with which class, and where each patch is cut.

Every draw follows from (seed, epoch, position) alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medseg.class_weights import class_weights_from_counts
from medseg.data.loading.cache.cached_cases import CachedCase
from medseg.data.loading.sampling.options import SamplingConfig
from medseg.errors import ConfigError, DataError
from medseg.geometry import Array

ADAPTIVE_FLOOR = 0.1
"""Weight of a class with a Dice of 1; a class with a Dice of 0 has weight 1."""


@dataclass(frozen=True)
class Draw:
    """The origin of one sample.

    Attributes:
        case: index of the case.
        class_index: class that the patch contains; None for a random position.
        rng: random generator of the sample.
    """

    case: int
    class_index: int | None
    rng: np.random.Generator


class PatchSampler:
    """Determines the case and the class of each sample.

    Positions that are forced to a class are spread evenly over an epoch. Each draws its class by the balance
    and then one of the cases that contain it, so that cases with rare classes are used more often. The other
    positions iterate over all cases, in a new order each time.

    Args:
        cases: the training cases.
        names: names of the classes.
        config: patch size and balance.
        seed: seed of all draws.

    Raises:
        DataError: if there are no cases.
    """

    def __init__(self, cases: list[CachedCase], names: tuple[str, ...], config: SamplingConfig, seed: int):
        if not cases:
            raise DataError("there are no cases to draw patches from")
        self.seed = seed
        self.config = config
        self.count = len(cases)
        self.class_probabilities = class_probabilities(cases, names, config)
        self.names = names
        self.forced_share = config.forced_share if self.class_probabilities.any() else 0.0
        self.cases_with_class = [
            np.array([i for i, case in enumerate(cases) if case.counts[k + 1]]) for k in range(len(names))
        ]

    @property
    def adaptive(self) -> bool:
        """Whether the class probabilities follow the validation."""
        return self.config.balance == "adaptive"

    def adapt(self, dice: Mapping[str, float]) -> None:
        """Set the class probabilities from a validation: the weight of a class is 1 - Dice, at least 0.1.

        Args:
            dice: Dice of each class; a missing or nan value (no case contains the class) counts as 0.
        """
        scores = [dice.get(name, math.nan) for name in self.names]
        weights = np.array([1.0 if math.isnan(d) else max(1 - d, ADAPTIVE_FLOOR) for d in scores])
        weights = weights * (self.class_probabilities > 0)
        if weights.any():
            self.class_probabilities = weights / weights.sum()

    def draw(self, epoch: int, position: int) -> Draw:
        """Draw the sample at a position of an epoch."""
        rng = np.random.default_rng([self.seed, epoch, position])
        before, after = (int((position + i) * self.forced_share + 1e-9) for i in (0, 1))
        if after > before:
            drawn = int(rng.choice(len(self.class_probabilities), p=self.class_probabilities))
            return Draw(int(rng.choice(self.cases_with_class[drawn])), drawn, rng)
        round_, index = divmod(position - before, self.count)
        order = np.random.default_rng([self.seed, epoch, round_, 1]).permutation(self.count)
        return Draw(int(order[index]), None, rng)


def class_probabilities(cases: list[CachedCase], names: tuple[str, ...], config: SamplingConfig) -> Array:
    """Compute how often each class is drawn.

    Args:
        cases: the training cases.
        names: names of the K classes.
        config: the balance.

    Returns:
        (K,) float64; 0 for classes that no case contains.

    Raises:
        ConfigError: if ``balance`` contains an unknown name, a negative weight or no positive weight.
    """
    counts = np.sum([case.counts[1:] for case in cases], axis=0)
    if not counts.any():
        return np.zeros(len(names))
    if isinstance(config.balance, dict):
        unknown = sorted(set(config.balance) - set(names))
        drawn = list(names if config.include_background else names[1:])
        positive = any(config.balance.get(name, 0.0) > 0 for name in drawn)
        if unknown or min(config.balance.values(), default=0.0) < 0 or not positive:
            raise ConfigError(
                f"sampling.balance: expected weights ≥ 0 for {list(names)}, above 0 for one of {drawn}; got "
                f"{config.balance}"
            )
        weights = np.array([config.balance.get(name, 0.0) for name in names])
    elif config.balance in ("uniform", "adaptive"):
        weights = np.ones(len(names))
    else:
        weights = np.array(class_weights_from_counts(counts.tolist(), config.balance))
    weights = np.where(counts > 0, weights, 0.0)
    if not config.include_background:
        weights[0] = 0.0
    total = weights.sum()
    return weights / total if total > 0 else weights


def draw_origin(case: CachedCase, draw: Draw, box: tuple[int, ...]) -> tuple[int, ...]:
    """Draw the first voxel of a patch; its central half contains a voxel of the drawn class, if there is one.

    Args:
        case: the drawn case.
        draw: its class and random generator.
        box: size of the patch, one number for each axis of the case.

    Returns:
        Index of the first voxel; negative where the case is smaller than the patch, which then surrounds it.
    """
    voxel = None if draw.class_index is None else case.draw_voxel(draw.class_index, draw.rng)
    origin: list[int] = []
    for axis, (size, patch) in enumerate(zip(case.shape, box, strict=True)):
        if size <= patch:
            origin.append(-((patch - size) // 2))
            continue
        low, high = 0, size - patch
        if voxel is not None:
            margin = patch // 4
            low = min(max(voxel[axis] - (patch - 1 - margin), 0), high)
            high = max(min(voxel[axis] - margin, high), low)
        origin.append(int(draw.rng.integers(low, high + 1)))
    return tuple(origin)
