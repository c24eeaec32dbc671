"""Centerline Dice loss of thin structures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from pydantic import Field

from medseg.losses.base import ClassMean, RegionConfig, RegionLoss
from medseg.task import Activation, Task


class ClDiceConfig(RegionConfig):
    """Settings of ``ClDiceLoss``.

    Inherited attributes: see ``RegionConfig``.

    Attributes:
        iterations: erosions of the skeletonization, at least the largest radius of a structure in voxels. Time
            and memory are proportional to it.
        smooth: added to the numerators and denominators of precision and sensitivity.
    """

    name: Literal["cldice"] = "cldice"
    iterations: int = Field(default=3, ge=1)
    smooth: float = Field(default=1.0, gt=0)

    def build(self, task: Task, class_counts: Sequence[int] | None = None) -> ClDiceLoss:
        """Build the loss. Raises: ConfigError as ``ClassWeightedConfig.resolve_weights``."""
        mean = self.class_mean(task, class_counts)
        return ClDiceLoss(task.activation, iterations=self.iterations, smooth=self.smooth, mean=mean)


class ClDiceLoss(RegionLoss):
    """Soft centerline Dice loss (clDice), 1 - 2 P S / (P + S), averaged over classes.

    The topology precision P is the share of the predicted skeleton in the target, the topology sensitivity S
    the share of the target's skeleton in the prediction. An interrupted vessel costs more than a thin one. It
    is combined with a loss of the voxels (the paper: equal weights with Dice). Shapes, ignored voxels and
    errors: ``SegmentationLoss``.

    Source: Shit et al. 2021, arXiv:2003.07311, algorithms 1 and 2.

    Args:
        activation: how logits become probabilities.
        iterations, smooth: see ``ClDiceConfig``.
        mean: how the losses of the classes are averaged.

    Example:
        >>> line = torch.zeros(1, 1, 5, 5)
        >>> line[0, 0, 2] = 1  # is its own skeleton
        >>> round(ClDiceLoss("sigmoid")(40 * line - 20, line).item(), 4)
        0.0
    """

    def __init__(
        self,
        activation: Activation = "softmax",
        *,
        iterations: int = 3,
        smooth: float = 1.0,
        mean: ClassMean | None = None,
    ) -> None:
        super().__init__(activation, mean or ClassMean())
        self.iterations, self.smooth = iterations, smooth

    def compare(
        self, predicted: torch.Tensor, truth: torch.Tensor, counted: torch.Tensor, over: list[int]
    ) -> torch.Tensor:
        ignored = counted == 0
        skeleton = soft_skeleton(predicted, self.iterations, ignored)
        true_skeleton = soft_skeleton(truth, self.iterations, ignored)
        precision = self._share(skeleton, truth, over)
        sensitivity = self._share(true_skeleton, predicted, over)
        return 1 - 2 * precision * sensitivity / (precision + sensitivity)

    def _share(self, skeleton: torch.Tensor, mask: torch.Tensor, over: list[int]) -> torch.Tensor:
        return ((skeleton * mask).sum(over) + self.smooth) / (skeleton.sum(over) + self.smooth)


def soft_skeleton(image: torch.Tensor, iterations: int, ignored: torch.Tensor | None = None) -> torch.Tensor:
    """Return the soft skeleton of an image: what openings of its successive erosions remove.

    Erosions are minima over the direct neighbors, dilations maxima over 3^D voxels. They take part in the
    gradient, are deterministic on every device, and do not reach over ignored voxels.

    Args:
        image: (B, K, *S) with values from 0 to 1.
        iterations: number of erosions.
        ignored: (B, 1, *S) or (B, K, *S) bool, voxels without influence, which are 0 in the skeleton.
    """

    def erode(values: torch.Tensor) -> torch.Tensor:
        values = values if ignored is None else values.masked_fill(ignored, 1)
        lines = [_line_extreme(values, axis, torch.minimum) for axis in range(2, values.ndim)]
        smallest = lines[0]
        for line in lines[1:]:
            smallest = torch.minimum(smallest, line)
        return smallest

    def dilate(values: torch.Tensor) -> torch.Tensor:
        values = values if ignored is None else values.masked_fill(ignored, 0)
        for axis in range(2, values.ndim):
            values = _line_extreme(values, axis, torch.maximum)
        return values

    eroded = erode(image)
    skeleton = (image - dilate(eroded)).relu()
    for _ in range(iterations):
        image, eroded = eroded, erode(eroded)
        removed = (image - dilate(eroded)).relu()
        skeleton = skeleton + (removed - skeleton * removed).relu()
    return skeleton if ignored is None else skeleton.masked_fill(ignored, 0)


def _line_extreme(
    values: torch.Tensor, axis: int, choose: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Return the extreme of each voxel and its two neighbors along one axis."""
    size = values.shape[axis]
    if size == 1:
        return values
    pairs = choose(values.narrow(axis, 0, size - 1), values.narrow(axis, 1, size - 1))
    inner = choose(pairs.narrow(axis, 0, size - 2), pairs.narrow(axis, 1, size - 2))
    return torch.cat([pairs.narrow(axis, 0, 1), inner, pairs.narrow(axis, size - 2, 1)], dim=axis)
