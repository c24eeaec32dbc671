"""Learning-rate schedules."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from medseg.config.base import Spec


class Schedule(Spec):
    """Base class of the schedules: a factor on the learning rate after a linear warm-up.

    A subclass has a literal ``name`` and implements ``decay``.

    Attributes:
        warmup: share of all updates in which the learning rate rises linearly.
    """

    warmup: float = Field(default=0.0, ge=0, lt=1)

    def factor(self, step: int, steps: int) -> float:
        """Return the factor of update ``step`` of ``steps``.

        It depends on nothing else, so that a resumed run follows the schedule exactly.

        Example:
            >>> [round(PolynomialSchedule(power=1).factor(step, 4), 2) for step in range(4)]
            [1.0, 0.75, 0.5, 0.25]
        """
        warm = round(self.warmup * steps)
        if step < warm:
            return (step + 1) / (warm + 1)
        return self.decay((step - warm) / max(steps - warm, 1))

    def factor_at(self, position: float) -> float:
        """Return the factor at a position (0 to 1) of a training whose number of updates is not known.

        Example:
            >>> PolynomialSchedule(power=1, warmup=0.2).factor_at(0.1)
            0.5
        """
        if position < self.warmup:
            return position / self.warmup
        return self.decay((position - self.warmup) / (1 - self.warmup))

    def decay(self, done: float) -> float:
        """Return the factor when a share ``done`` (0 to 1) of the updates after the warm-up has passed."""
        raise NotImplementedError(f"{type(self).__name__} does not implement decay")


class ConstantSchedule(Schedule):
    """No decay."""

    name: Literal["constant"] = "constant"

    def decay(self, done: float) -> float:
        """Return 1."""
        return 1.0


class CosineSchedule(Schedule):
    """Half a cosine from 1 to ``floor`` (Loshchilov and Hutter 2017, arXiv:1608.03983).

    Inherited attributes: see ``Schedule``.

    Attributes:
        floor: the last factor.
    """

    name: Literal["cosine"] = "cosine"
    floor: float = Field(default=0.0, ge=0, le=1)

    def decay(self, done: float) -> float:
        """Return floor + (1 - floor) (1 + cos πt) / 2."""
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2


class PolynomialSchedule(Schedule):
    """(1 - t)^power, the schedule of DeepLab (Chen et al. 2016, arXiv:1606.00915) and nnU-Net.

    Inherited attributes: see ``Schedule``.

    Attributes:
        power: the exponent.
    """

    name: Literal["polynomial"] = "polynomial"
    power: float = Field(default=0.9, gt=0)

    def decay(self, done: float) -> float:
        """Return (1 - t)^power."""
        return max(1 - done, 0.0) ** self.power


class StepSchedule(Schedule):
    """A factor ``gamma`` at each of the given shares of the training.

    Inherited attributes: see ``Schedule``.

    Attributes:
        at: shares of the updates after the warm-up.
        gamma: factor on the learning rate at each of them.
    """

    name: Literal["step"] = "step"
    at: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.5, 0.75)
    gamma: float = Field(default=0.1, gt=0, lt=1)

    def decay(self, done: float) -> float:
        """Return gamma to the power of the number of shares passed."""
        return self.gamma ** sum(done >= share for share in self.at)


class PlateauSchedule(Schedule):
    """A factor ``gamma`` whenever ``patience`` validations pass without a better score.

    Inherited attributes: see ``Schedule``.

    Attributes:
        gamma: factor on the learning rate at each reduction.
        patience: number of validations without a better score before a reduction.
    """

    name: Literal["plateau"] = "plateau"
    gamma: float = Field(default=0.5, gt=0, lt=1)
    patience: int = Field(default=5, ge=1)

    def decay(self, done: float) -> float:
        """Return 1: reductions depend on the validation scores, not on the update."""
        return 1.0

    def count_reductions(self, scores: list[float]) -> int:
        """Return the number of reductions after a history of validation scores (higher is better)."""
        best, waited, reductions = -math.inf, 0, 0
        for score in scores:
            if score > best:
                best, waited = score, 0
            else:
                waited += 1
            if waited >= self.patience:
                reductions, waited = reductions + 1, 0
        return reductions


ScheduleConfig = Annotated[
    ConstantSchedule | CosineSchedule | PolynomialSchedule | StepSchedule | PlateauSchedule,
    Field(discriminator="name"),
]


def learning_rate(base: float, schedule: ScheduleConfig, step: int, steps: int, scores: list[float]) -> float:
    """Return the learning rate of update ``step`` of ``steps``.

    Args:
        base: learning rate of the optimizer's settings.
        schedule: the schedule.
        step: number of the update, from 0.
        steps: number of all updates.
        scores: validation scores so far (higher is better).
    """
    return base * schedule.factor(step, steps) * _plateau_factor(schedule, scores)


def learning_rate_at(base: float, schedule: ScheduleConfig, position: float, scores: list[float]) -> float:
    """Return the learning rate at a position (0 to 1) of a training; see :func:`learning_rate`."""
    return base * schedule.factor_at(position) * _plateau_factor(schedule, scores)


def _plateau_factor(schedule: ScheduleConfig, scores: list[float]) -> float:
    if isinstance(schedule, PlateauSchedule):
        return schedule.gamma ** schedule.count_reductions(scores)
    return 1.0
