"""Boundary loss."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat

from medseg.errors import ConfigError
from medseg.losses.base import ClassMean, RegionConfig, RegionLoss
from medseg.task import Activation, Task


class BoundaryConfig(RegionConfig):
    """Settings of ``BoundaryLoss``.

    Inherited attributes: see ``RegionConfig``.

    Attributes:
        spacing: size of a voxel along each axis of a patch; distances have its unit. None: 1 along every axis,
            so that distances are in voxels.
    """

    name: Literal["boundary"] = "boundary"
    spacing: tuple[PositiveFloat, ...] | None = Field(default=None, min_length=2, max_length=3)

    def build(self, task: Task, class_counts: Sequence[int] | None = None) -> BoundaryLoss:
        """Build the loss. Raises: ConfigError if the spacing or the class weights do not fit the task."""
        if self.spacing is not None and len(self.spacing) != task.spatial_dims:
            raise ConfigError(
                f"loss.spacing has {len(self.spacing)} numbers, expected {task.spatial_dims} (spatial_dims)"
            )
        return BoundaryLoss(task.activation, spacing=self.spacing, mean=self.class_mean(task, class_counts))


class BoundaryLoss(RegionLoss):
    """Boundary loss, mean over voxels of φ (p - g), averaged over classes.

    φ is the signed distance to the boundary of the target: positive outside, negative inside, 0 in the
    outermost voxels of the region. A voxel costs more the farther it is on the wrong side. The paper omits the
    constant -φ g; with it, the loss is never negative and 0 for a perfect prediction, with the same gradients.

    A class that is absent from a sample, or fills it, has no boundary and no loss there: add a loss of overlap
    or cross-entropy (the paper: generalized Dice + 0.01 times the boundary loss). Shapes, ignored voxels and
    errors: ``SegmentationLoss``. Soft labels belong to a class from a probability above 0.5.

    The maps are computed from the targets on the CPU, two exact Euclidean distance transforms per sample and
    class: 0.1 s for a patch of 64³ voxels, 1 s for 128³.

    Source: Kervadec et al. 2019, arXiv:1812.07032.

    Args:
        activation: how logits become probabilities.
        spacing: see ``BoundaryConfig``.
        mean: how the losses of the classes are averaged.

    Example:
        >>> target = torch.tensor([[[[1, 0, 0, 0]]]])  # distances 0, 1, 2, 3; p = 1/2
        >>> BoundaryLoss()(torch.zeros(1, 2, 1, 4), target).item()  # (1 + 2 + 3) / 2 / 4
        0.75
    """

    def __init__(
        self,
        activation: Activation = "softmax",
        *,
        spacing: tuple[float, ...] | None = None,
        mean: ClassMean | None = None,
    ) -> None:
        super().__init__(activation, mean or ClassMean())
        self.spacing = spacing

    def compare(
        self, predicted: torch.Tensor, truth: torch.Tensor, counted: torch.Tensor, over: list[int]
    ) -> torch.Tensor:
        regions = (truth > 0.5).numpy(force=True)
        valid = np.broadcast_to(counted.numpy(force=True) > 0, regions.shape)
        maps = np.zeros(regions.shape, np.float32)
        for sample in np.ndindex(regions.shape[:2]):
            maps[sample] = signed_distances(regions[sample], valid[sample], self.spacing)
        distances = torch.as_tensor(maps).to(predicted)
        total = self.batch_total((distances * (predicted - truth)).sum(over))
        return total / self.batch_total(counted.sum(over)).clamp(min=1)


def signed_distances(
    region: NDArray[np.bool_], valid: NDArray[np.bool_], spacing: Sequence[float] | None = None
) -> NDArray[np.float32]:
    """Return the distance of each voxel to the nearest voxel of a region; inside, the negative distance to the
    nearest voxel outside plus one voxel, so that it is 0 in the outermost voxels.

    Voxels that are not valid have no distance (0) and no influence on others. Without valid voxels on both
    sides there is no boundary, and all distances are 0.

    Args:
        region: (*S) voxels of the region.
        valid: (*S) voxels that are not ignored.
        spacing: size of a voxel along each axis; None: 1.
    """
    inside, outside = region & valid, ~region & valid
    if not inside.any() or not outside.any():
        return np.zeros(region.shape, np.float32)
    voxel = 1.0 if spacing is None else min(spacing)
    ndimage: Any = import_module("scipy.ndimage")  # has no type information
    to_region: NDArray[np.float64] = ndimage.distance_transform_edt(~inside, sampling=spacing)
    to_outside: NDArray[np.float64] = ndimage.distance_transform_edt(~outside, sampling=spacing)
    return (to_region * outside - (to_outside - voxel) * inside).astype(np.float32)
