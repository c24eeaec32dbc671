"""Optimizers and learning-rate schedules, each built from its own Spec."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from medseg.config.base import Spec

Beta = Annotated[float, Field(ge=0, lt=1)]


Parameters = Iterable[torch.nn.Parameter] | list[dict[str, Any]]


class SGDConfig(Spec):
    """Stochastic gradient descent with momentum.

    Attributes:
        nesterov: look ahead by the momentum (Sutskever et al. 2013), where there is any.
    """

    name: Literal["sgd"] = "sgd"
    lr: float = Field(default=1e-2, gt=0)
    momentum: float = Field(default=0.99, ge=0, lt=1)
    weight_decay: float = Field(default=3e-5, ge=0)
    nesterov: bool = True

    def build(self, parameters: Parameters) -> torch.optim.Optimizer:
        """The optimizer over ``parameters``, or groups of them."""
        return torch.optim.SGD(
            parameters,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov and self.momentum > 0,
        )


class AdamConfig(Spec):
    """Adam (Kingma and Ba 2015, arXiv:1412.6980)."""

    name: Literal["adam"] = "adam"
    lr: float = Field(default=1e-3, gt=0)
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    weight_decay: float = Field(default=0.0, ge=0)

    def build(self, parameters: Parameters) -> torch.optim.Optimizer:
        """The optimizer over ``parameters``, or groups of them."""
        return torch.optim.Adam(parameters, lr=self.lr, betas=self.betas, weight_decay=self.weight_decay)


class AdamWConfig(Spec):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101)."""

    name: Literal["adamw"] = "adamw"
    lr: float = Field(default=2e-3, gt=0)
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    weight_decay: float = Field(default=1e-4, ge=0)

    def build(self, parameters: Parameters) -> torch.optim.Optimizer:
        """The optimizer over ``parameters``, or groups of them."""
        return torch.optim.AdamW(parameters, lr=self.lr, betas=self.betas, weight_decay=self.weight_decay)


OptimizerConfig = Annotated[SGDConfig | AdamConfig | AdamWConfig, Field(discriminator="name")]


class _Schedule(Spec):
    """A factor on the learning rate, after a linear warm-up over a share of all steps."""

    warmup: float = Field(default=0.0, ge=0, lt=1)

    def factor(self, step: int, steps: int) -> float:
        """The factor of update ``step`` of ``steps``: a pure function, so a resumed run follows it exactly."""
        warm = round(self.warmup * steps)
        if step < warm:
            return (step + 1) / (warm + 1)
        return self.decay((step - warm) / max(steps - warm, 1))

    def decay(self, done: float) -> float:
        """The factor when a share ``done`` (0 to 1) of the steps after the warm-up has passed."""
        raise AssertionError("each schedule defines its decay")


class ConstantSchedule(_Schedule):
    """No decay."""

    name: Literal["constant"] = "constant"

    def decay(self, done: float) -> float:
        """Always 1."""
        return 1.0


class CosineSchedule(_Schedule):
    """Half a cosine from 1 to ``floor`` (Loshchilov and Hutter 2017, arXiv:1608.03983)."""

    name: Literal["cosine"] = "cosine"
    floor: float = Field(default=0.0, ge=0, le=1)

    def decay(self, done: float) -> float:
        """floor + (1 - floor) (1 + cos πt) / 2."""
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2


class PolynomialSchedule(_Schedule):
    """(1 - t)^power, the schedule of DeepLab and nnU-Net."""

    name: Literal["polynomial"] = "polynomial"
    power: float = Field(default=0.9, gt=0)

    def decay(self, done: float) -> float:
        """(1 - t)^power."""
        return max(1 - done, 0.0) ** self.power


class StepSchedule(_Schedule):
    """A factor ``gamma`` at each of the given shares of the training."""

    name: Literal["step"] = "step"
    at: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.5, 0.75)
    gamma: float = Field(default=0.1, gt=0, lt=1)

    def decay(self, done: float) -> float:
        """gamma to the number of shares passed."""
        return self.gamma ** sum(done >= share for share in self.at)


class PlateauSchedule(_Schedule):
    """A factor ``gamma`` whenever ``patience`` validations pass without a better score.

    The number of reductions is kept in the checkpoint; :meth:`decay` does nothing.
    """

    name: Literal["plateau"] = "plateau"
    gamma: float = Field(default=0.5, gt=0, lt=1)
    patience: int = Field(default=5, ge=1)

    def decay(self, done: float) -> float:
        """Always 1: reductions follow the validation score, not the step."""
        return 1.0

    def reductions(self, scores: list[float]) -> int:
        """How many reductions a history of validation scores (higher is better) has earned."""
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
    """The learning rate of update ``step`` of ``steps``, given the validation scores so far."""
    rate = base * schedule.factor(step, steps)
    if isinstance(schedule, PlateauSchedule):
        rate *= schedule.gamma ** schedule.reductions(scores)
    return rate
