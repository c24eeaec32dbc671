"""A loss on every resolution that a network returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from medseg.errors import ConfigError
from medseg.model_output import as_output

DeepWeights = Literal["halving", "halving_skip_lowest"] | tuple[Annotated[float, Field(ge=0)], ...]
"""Weights of the resolutions: 1, 1/2, 1/4, …; the same with 0 for the lowest resolution; or numbers."""


class DeepSupervisionLoss(nn.Module):
    """Apply one loss to the logits, the deep logits and the auxiliary logits of an ``Output``.

    The logits and the N deep ones are weighted by 1, 1/2, 1/4, …, or by other weights, normalized to a sum of 1
    (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z, with 0 for the lowest resolution). Logits of weight 0
    are not compared. The auxiliary logits add ``aux_weight`` times their loss (Zhao et al.
    2017, arXiv:1612.01105, section 3.3). Coarser logits are compared with the target at the voxel nearest to
    each of their centers. For a plain tensor of logits, the result is the loss itself.

    Shapes: the output as in ``as_output``; target and ``annotated`` as in ``SegmentationLoss``, at the full
    resolution.

    Args:
        loss: takes logits, target and ``annotated``.
        aux_weight: weight of the auxiliary logits.
        weights: of the resolutions, the finest first; see ``DeepWeights``.

    Raises:
        ConfigError: when called with another number of resolutions than ``weights`` has numbers.
        TypeError: when called with an output that ``as_output`` does not accept.
        ValueError: as the loss.
    """

    def __init__(self, loss: nn.Module, *, aux_weight: float = 0.4, weights: DeepWeights = "halving") -> None:
        super().__init__()
        self.loss = loss
        self.aux_weight = aux_weight
        self.weights: DeepWeights = weights

    def forward(
        self, output: object, target: torch.Tensor, annotated: torch.Tensor | None = None
    ) -> torch.Tensor:
        logits, deep, aux = as_output(output)
        weights = resolution_weights(self.weights, 1 + len(deep))
        total = weights[0] * self.loss(logits, target, annotated)
        for weight, coarse in zip(weights[1:], deep, strict=True):
            if weight:
                total = total + weight * self._coarse_loss(coarse, target, annotated)
        if aux is not None:
            total = total + self.aux_weight * self._coarse_loss(aux, target, annotated)
        return total

    def _coarse_loss(
        self, logits: torch.Tensor, target: torch.Tensor, annotated: torch.Tensor | None
    ) -> torch.Tensor:
        return self.loss(logits, resize_nearest(target, logits.shape[2:]), annotated)


def resolution_weights(weights: DeepWeights, count: int) -> list[float]:
    """Return the weights of ``count`` resolutions, the finest first, with a sum of 1.

    A single resolution has weight 1, whatever ``weights`` is.

    Raises:
        ConfigError: if ``weights`` has another number of numbers, or the first is 0.

    Example:
        >>> resolution_weights("halving_skip_lowest", 3)
        [0.6666666666666666, 0.3333333333333333, 0.0]
    """
    if count == 1:
        return [1.0]
    if weights == "halving":
        return halving_weights(count)
    if weights == "halving_skip_lowest":
        return [*halving_weights(count - 1), 0.0]
    if len(weights) != count or not weights[0]:
        raise ConfigError(
            f"train.deep_weights is {list(weights)}, expected {count} numbers, the first above 0: one for each "
            "resolution of the network's logits, the finest first"
        )
    return [float(weight) / sum(weights) for weight in weights]


def halving_weights(count: int) -> list[float]:
    """Return ``count`` weights, each half of the previous one, that sum to 1.

    Example:
        >>> halving_weights(2)
        [0.6666666666666666, 0.3333333333333333]
    """
    total = 2 - 0.5 ** (count - 1)
    return [0.5**index / total for index in range(count)]


def resize_nearest(target: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Resize ``target`` (B, C, *S) of any type to ``size`` by nearest-neighbor interpolation.

    A voxel of the new grid gets the value of the voxel that contains its center; between two voxels, the later
    one is used (as ``nearest-exact`` in PyTorch).
    """
    for axis, new in enumerate(size, start=2):
        old = target.shape[axis]
        if new != old:
            index = (2 * torch.arange(new, device=target.device) + 1) * old // (2 * new)
            target = target.index_select(axis, index)
    return target
