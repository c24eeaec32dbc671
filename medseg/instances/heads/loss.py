"""The loss of a network with a dense head: that of the classes, plus that of the maps."""

from __future__ import annotations

import torch
from torch import nn

from medseg.instances.heads.base import InstanceHead
from medseg.system.processes.batch_reduction import BatchReduction
from medseg.task import IGNORE_INDEX


class InstanceLoss(nn.Module):
    """Loss of the classes plus the weighted loss of the maps; ignored voxels count in neither.

    Shapes:
        - logits: (B, K + G, *S), classes and maps.
        - target: (B, 1 + G, *S) float, the class of each voxel (-1: ignored) and the maps.
        - annotated: (B, K) bool, passed on to the loss of the classes.

    Args:
        classes: loss of logits (B, K, *S) against classes (B, 1, *S).
        head: of the maps.
        weight: factor on the loss of the maps.
        reduction: combines sums over the samples of several processes; None: this one has the whole batch.
    """

    def __init__(
        self,
        classes: nn.Module,
        head: InstanceHead,
        weight: float = 1.0,
        reduction: BatchReduction | None = None,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.head = head
        self.weight = weight
        self.reduction = reduction

    def forward(
        self, logits: torch.Tensor, target: torch.Tensor, annotated: torch.Tensor | None = None
    ) -> torch.Tensor:
        count = logits.shape[1] - self.head.channels
        labels, maps = target[:, :1].long(), target[:, 1:]
        with torch.autocast(logits.device.type, enabled=False):
            predicted = logits[:, count:].float()
            counted = (labels != IGNORE_INDEX).to(predicted.dtype)
            loss = self._mean(self.head.loss(predicted, maps, counted), counted.sum())
        return self.classes(logits[:, :count], labels, annotated) + self.weight * loss

    def _mean(self, loss: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        """Return the loss over the counted voxels of all processes, from that of this one."""
        if self.reduction is None:
            return loss
        total, voxels = self.reduction.sum(torch.stack([loss * count, count])).unbind()
        return total / voxels.clamp(min=1)
