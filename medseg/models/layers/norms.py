"""Norms that accept a single value per channel, such as a pooled 1×1 branch with a batch of one."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

NormName = Literal["batch", "instance", "group"]


class BatchNorm(_BatchNorm):
    """Batch norm in 2D and 3D that trains on any batch (Ioffe and Szegedy 2015, arXiv:1502.03167).

    A single value per channel has no variance: in training, such an input is normalized with the running
    statistics, as in evaluation, and does not update them. Parameters and keys are those of
    ``nn.BatchNorm2d``.

    Shapes: (B, C, *S) to the same.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(input)

    def _check_input_dim(self, input: torch.Tensor) -> None:
        if input.ndim not in (4, 5):
            raise ValueError(f"batch norm takes (B, C, *S) with 2 or 3 spatial axes, got {tuple(input.shape)}")


class InstanceNorm(_InstanceNorm):
    """Instance norm in 2D and 3D; a single voxel, which has no variance, is only scaled and shifted.

    Shapes: (B, C, *S) to the same.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if math.prod(input.shape[2:]) == 1:
            return _affine(input, self.weight, self.bias)
        self._check_input_dim(input)
        return F.instance_norm(input, weight=self.weight, bias=self.bias, eps=self.eps)

    def _check_input_dim(self, input: torch.Tensor) -> None:
        if input.ndim not in (4, 5):
            raise ValueError(
                f"instance norm takes (B, C, *S) with 2 or 3 spatial axes, got {tuple(input.shape)}"
            )


class GroupNorm(nn.GroupNorm):
    """Group norm (Wu and He 2018, arXiv:1803.08494); a group of one value is only scaled and shifted.

    The number of groups is the largest one that divides both ``groups`` and ``channels``.

    Shapes: (B, C, *S) to the same.
    """

    def __init__(self, groups: int, channels: int, eps: float = 1e-5) -> None:
        super().__init__(math.gcd(groups, channels), channels, eps)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if self.num_channels == self.num_groups and math.prod(input.shape[2:]) == 1:
            return _affine(input, self.weight, self.bias)
        return super().forward(input)


def _affine(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    shape = (1, -1) + (1,) * (x.ndim - 2)
    return (x * weight.view(shape) + bias.view(shape)).to(x.dtype)
