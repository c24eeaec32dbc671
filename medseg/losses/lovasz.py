"""Lovász-softmax and Lovász hinge loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from medseg.losses.base import ClassMean, RegionConfig, RegionLoss, is_soft
from medseg.task import Activation, Task


class LovaszConfig(RegionConfig):
    """Settings of ``LovaszLoss``.

    Inherited attributes: see ``RegionConfig``. As in the paper, the background is a class like the others.
    """

    name: Literal["lovasz"] = "lovasz"
    include_background: bool = True

    def build(self, task: Task, class_counts: Sequence[int] | None = None) -> LovaszLoss:
        """Build the loss. Raises: ConfigError as ``ClassWeightedConfig.resolve_weights``."""
        return LovaszLoss(task.activation, mean=self.class_mean(task, class_counts))


class LovaszLoss(RegionLoss):
    """Lovász extension of the Jaccard loss, 1 - IoU, averaged over classes.

    It is a convex surrogate of the IoU itself: errors are sorted, and each is weighted by the IoU that is lost
    when its voxel becomes wrong. With softmax (Lovász-softmax), the error of a voxel is ``|g - p|``. With
    sigmoid (Lovász hinge, on logits x), it is max(0, 1 - x) where the region is present and max(0, 1 + x)
    elsewhere.

    Shapes, ignored voxels and errors: ``SegmentationLoss``. Soft labels are not supported with softmax; with
    sigmoid, a voxel belongs to a region from a probability above 0.5. The cost is one sort of all voxels for
    each class, about 12 times that of a Dice loss on a CPU. Processes that share a batch send each other all
    errors, and each sorts those of the whole batch.

    Source: Berman et al. 2018, arXiv:1705.08790.

    Args:
        activation: how logits become probabilities.
        mean: how the losses of the classes are averaged.

    Example:
        >>> target = torch.tensor([[[[0, 1], [1, 0]]]])
        >>> LovaszLoss()(torch.zeros(1, 2, 2, 2), target).item()  # all errors are 1/2
        0.5
    """

    def __init__(self, activation: Activation = "softmax", *, mean: ClassMean | None = None) -> None:
        super().__init__(activation, mean or ClassMean(include_background=True))

    def activate(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the probabilities of a softmax, or the logits of regions."""
        return logits.softmax(1) if self.activation == "softmax" else logits

    def compute(
        self, logits: torch.Tensor, target: torch.Tensor, annotated: torch.Tensor | None
    ) -> torch.Tensor:
        if self.activation == "softmax" and is_soft(target):
            raise ValueError(
                "the Lovász loss does not support soft labels (probabilities); use the losses ce or dice"
            )
        return super().compute(logits, target, annotated)

    def compare(
        self, predicted: torch.Tensor, truth: torch.Tensor, counted: torch.Tensor, over: list[int]
    ) -> torch.Tensor:
        present = (truth > 0.5).to(predicted.dtype)
        if self.activation == "softmax":
            errors = (present - predicted).abs()
        else:
            errors = (1 - predicted * (2 * present - 1)).relu() * counted
        errors, present = self._rows(errors), self._rows(present)
        if self.per == "batch":  # the order is that of all voxels of the batch
            errors, present = map(self.reduction.concatenate, (errors, present))
        errors, order = errors.sort(dim=-1, descending=True)
        return (errors * jaccard_losses(present.gather(-1, order))).sum(-1)

    def _rows(self, values: torch.Tensor) -> torch.Tensor:
        """Reshape (B, K, *S) to one row per class (K, N), with ``per="sample"`` per sample and class."""
        return values.transpose(0, 1).flatten(1) if self.per == "batch" else values.flatten(2)


def jaccard_losses(truth: torch.Tensor) -> torch.Tensor:
    """Return by how much 1 - IoU increases with each voxel that becomes wrong after those before it.

    A missed voxel of the region decreases the intersection I: 1 / U. A false positive increases the union U:
    I / (U - 1) - I / U. The increases of a row sum to 1.

    Args:
        truth: (..., N), 1 for voxels of the region, else 0, in the order in which they become wrong.
    """
    size = truth.sum(-1, keepdim=True)
    intersection = size - truth.cumsum(-1)
    union = size + (1 - truth).cumsum(-1)
    false_positive = torch.where(union > 1, intersection / (union * (union - 1).clamp(min=1)), 1.0)
    return torch.where(truth > 0, 1 / union.clamp(min=1), false_positive)
