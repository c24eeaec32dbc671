"""Settings of the optimizers; each builds its PyTorch optimizer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from medseg.config.base import Spec

Beta = Annotated[float, Field(ge=0, lt=1)]

Parameters = Iterable[torch.nn.Parameter] | list[dict[str, Any]]
"""Parameters to train, or groups of them, as PyTorch's optimizers accept them."""


class SGDConfig(Spec):
    """Stochastic gradient descent with momentum.

    Attributes:
        lr: learning rate.
        momentum: share of the previous update.
        weight_decay: factor of the L2 penalty.
        nesterov: use Nesterov momentum (Sutskever et al. 2013) if ``momentum`` is above 0.
        fused: update all weights in one kernel, which is faster; results differ in the last digits.
    """

    name: Literal["sgd"] = "sgd"
    lr: float = Field(default=1e-2, gt=0)
    momentum: float = Field(default=0.99, ge=0, lt=1)
    weight_decay: float = Field(default=3e-5, ge=0)
    nesterov: bool = True
    fused: bool = False

    def build(self, parameters: Parameters) -> torch.optim.Optimizer:
        """Build the optimizer over ``parameters``."""
        return torch.optim.SGD(
            parameters,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov and self.momentum > 0,
            fused=self.fused or None,
        )


class AdamConfig(Spec):
    """Adam (Kingma and Ba 2015, arXiv:1412.6980).

    Attributes:
        lr: learning rate.
        betas: decay rates of the running averages of the gradient and of its square.
        weight_decay: factor of the L2 penalty.
        fused: update all weights in one kernel, which is faster; results differ in the last digits.
    """

    name: Literal["adam"] = "adam"
    lr: float = Field(default=1e-3, gt=0)
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    weight_decay: float = Field(default=0.0, ge=0)
    fused: bool = False

    def build(self, parameters: Parameters) -> torch.optim.Optimizer:
        """Build the optimizer over ``parameters``."""
        return torch.optim.Adam(
            parameters,
            lr=self.lr,
            betas=self.betas,
            weight_decay=self.weight_decay,
            fused=self.fused or None,
        )


class AdamWConfig(Spec):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101).

    Attributes:
        lr: learning rate.
        betas: decay rates of the running averages of the gradient and of its square.
        weight_decay: share of the weights subtracted per update, times the learning rate.
        fused: update all weights in one kernel, which is faster; results differ in the last digits.
    """

    name: Literal["adamw"] = "adamw"
    lr: float = Field(default=2e-3, gt=0)
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    weight_decay: float = Field(default=1e-4, ge=0)
    fused: bool = False

    def build(self, parameters: Parameters) -> torch.optim.Optimizer:
        """Build the optimizer over ``parameters``."""
        return torch.optim.AdamW(
            parameters,
            lr=self.lr,
            betas=self.betas,
            weight_decay=self.weight_decay,
            fused=self.fused or None,
        )


OptimizerConfig = Annotated[SGDConfig | AdamConfig | AdamWConfig, Field(discriminator="name")]
