"""A loss on every resolution that a network returns."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from medseg.model_output import as_output


class DeepSupervisionLoss(nn.Module):
    """One loss on the logits and on the deep and auxiliary ones of an ``Output``.

    The logits and the N deep ones weigh 1, 1/2, 1/4, …, normalized to a sum of 1 (Isensee et al. 2021,
    doi:10.1038/s41592-020-01008-z); the auxiliary ones add ``aux_weight`` times their loss (Zhao et al.
    2017, arXiv:1612.01105, section 3.3). Coarser logits meet the target at the voxel nearest to each of
    their centers. With a plain tensor of logits it is the loss itself.

    Shapes: what ``as_output`` takes; target and ``known`` as in ``SegmentationLoss``, at the full resolution.
    Raises: TypeError as ``as_output``; ValueError as the loss.
    """

    def __init__(self, loss: nn.Module, *, aux_weight: float = 0.4) -> None:
        super().__init__()
        self.loss = loss
        self.aux_weight = aux_weight

    def forward(self, output: object, target: torch.Tensor, known: torch.Tensor | None = None) -> torch.Tensor:
        logits, deep, aux = as_output(output)
        weights = halving_weights(1 + len(deep))
        total = weights[0] * self.loss(logits, target, known)
        for weight, coarse in zip(weights[1:], deep, strict=True):
            total = total + weight * self._at_own_size(coarse, target, known)
        if aux is not None:
            total = total + self.aux_weight * self._at_own_size(aux, target, known)
        return total

    def _at_own_size(
        self, logits: torch.Tensor, target: torch.Tensor, known: torch.Tensor | None
    ) -> torch.Tensor:
        return self.loss(logits, resize_nearest(target, logits.shape[2:]), known)


def halving_weights(count: int) -> list[float]:
    """``count`` weights, each half of the one before, that sum to 1."""
    total = 2 - 0.5 ** (count - 1)
    return [0.5**index / total for index in range(count)]


def resize_nearest(target: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """``target`` (B, C, *S) of any type, picked at the voxels that hold the centers of a grid of ``size``.

    Where a center lies between two voxels, the further one is taken (as ``nearest-exact`` in torch).
    """
    for axis, new in enumerate(size, start=2):
        old = target.shape[axis]
        if new != old:
            index = (2 * torch.arange(new, device=target.device) + 1) * old // (2 * new)
            target = target.index_select(axis, index)
    return target
