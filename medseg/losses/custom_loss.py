"""A loss function of your own, passed from Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import nn

from medseg.config.base import Spec
from medseg.errors import ConfigError
from medseg.losses.base import SegmentationLoss
from medseg.task import Activation, Task

LossFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Maps logits (B, K, *S) and a target, as in ``SegmentationLoss``, to a scalar."""


class CustomLossConfig(Spec):
    """A loss given as ``fit(config, run, loss=my_loss)``.

    Attributes:
        function: qualified name of the function, for the record and for messages.
    """

    name: Literal["custom"] = "custom"
    function: str

    def build(self, task: Task, class_counts: Sequence[int] | None = None) -> SegmentationLoss:
        """Raise an error: no code is run from a configuration.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"the loss is the custom function {self.function}, which cannot be built from a file",
            hint="Pass it: fit(config, run, loss=my_loss), or medseg train … --loss module:function.",
        )


class CustomLoss(SegmentationLoss):
    """Calls a function of logits and target.

    Logits are float32 or float64. Where a sample is only partially annotated, the logits and labels of the
    other classes are merged with the background beforehand, as for every loss.

    Shapes as in ``SegmentationLoss``. In a distributed training, it is called with the samples of each process,
    and the results are averaged.

    Args:
        function: maps logits and target to a scalar.
        activation: how logits become probabilities.

    Raises:
        ConfigError: when called, if the result is not a scalar that depends on the logits.
    """

    def __init__(self, function: LossFunction, activation: Activation) -> None:
        super().__init__(activation)
        self.name = getattr(function, "__qualname__", type(function).__name__)
        self.function = function
        if isinstance(function, nn.Module) and any(p.requires_grad for p in function.parameters()):
            raise ConfigError(f"loss {self.name}: has parameters, which would not be trained")

    def compute(
        self, logits: torch.Tensor, target: torch.Tensor, annotated: torch.Tensor | None
    ) -> torch.Tensor:
        value: Any = self.function(logits, target)
        if not isinstance(value, torch.Tensor):
            raise ConfigError(f"loss {self.name}: returned {value!r}; expected a scalar tensor")
        if value.ndim:
            shape = tuple(value.shape)
            raise ConfigError(f"loss {self.name}: returned a tensor of shape {shape}; expected a scalar")
        if logits.requires_grad and not value.requires_grad:
            raise ConfigError(f"loss {self.name}: its value does not depend on the logits")
        return self.reduction.mean(value)
