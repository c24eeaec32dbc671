"""Anchors: the boxes relative to which a detector predicts, and their planning from the sizes of objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat

from medseg.config.base import Spec
from medseg.errors import ConfigError
from medseg.models.base import ArchitectureConfig

Shape = tuple[PositiveFloat, ...]

DETECTIONS = 100
"""Most detections of an image, if the training does not say how many there are (COCO)."""


class AnchorOptions(Spec):
    """Sizes and shapes of the anchors.

    Attributes:
        shapes: sides in voxels of the anchors of each level, one number per axis: level → anchor → axis.
            ``auto`` plans them from the sizes of the training's objects; without these, ``sizes`` and
            ``ratios`` hold.
        sizes: side of the anchors of each level: square root of the area, cube root of the volume.
        ratios: of the first axis to the others.
        per_level: number of shapes of a level that ``auto`` plans.
    """

    shapes: tuple[tuple[Shape, ...], ...] | Literal["auto"] | None = None
    sizes: tuple[PositiveFloat, ...] = (32, 64, 128, 256, 512)
    ratios: tuple[PositiveFloat, ...] = (0.5, 1.0, 2.0)
    per_level: int = Field(default=3, ge=1, le=9)

    def resolve(self, levels: int, spatial_dims: int) -> list[list[tuple[float, ...]]]:
        """Return the sides of the anchors: level → anchor → axis.

        Raises:
            ConfigError: if the number of levels or axes is another one.
        """
        planned = isinstance(self.shapes, tuple)
        shapes = self.shapes if isinstance(self.shapes, tuple) else self._by_ratio(spatial_dims)
        if len(shapes) != levels:
            key = "shapes" if planned else "sizes"
            raise ConfigError(
                f"model.anchors.{key} has {len(shapes)} levels, but the feature pyramid has {levels}",
                hint=f"Give {levels} levels, or set model.anchors.shapes=auto.",
            )
        wrong = next((one for level in shapes for one in level if len(one) != spatial_dims), None)
        if wrong is not None:
            raise ConfigError(f"model.anchors.shapes: {wrong} has {len(wrong)} sides, expected {spatial_dims}")
        if len({len(level) for level in shapes}) != 1:
            raise ConfigError("model.anchors.shapes: the levels have different numbers of anchors")
        return [list(level) for level in shapes]

    def planned(self, sides: NDArray[np.float64], levels: int) -> AnchorOptions:
        """Return the options with shapes planned from the objects, if they are ``auto``.

        Args:
            sides: (N, D) sides of the objects' boxes in voxels.
            levels: number of levels.
        """
        if self.shapes != "auto" or not len(sides):
            return self
        return self.model_copy(update={"shapes": plan_shapes(sides, levels, self.per_level)})

    def _by_ratio(self, spatial_dims: int) -> tuple[tuple[tuple[float, ...], ...], ...]:
        """Return anchors of equal area or volume, whose first side is ``ratio`` times the others."""
        levels: list[tuple[tuple[float, ...], ...]] = []
        for size in self.sizes:
            others = [size / ratio ** (1 / spatial_dims) for ratio in self.ratios]
            levels.append(
                tuple(
                    (ratio * other, *(other,) * (spatial_dims - 1))
                    for ratio, other in zip(self.ratios, others, strict=True)
                )
            )
        return tuple(levels)


class AnchoredConfig(ArchitectureConfig):
    """Base class of the settings of detectors with anchors.

    Attributes:
        anchors: sizes and shapes of the anchors.
    """

    anchors: AnchorOptions = AnchorOptions(shapes="auto")

    @property
    def levels(self) -> int:
        """Number of levels of the anchors."""
        raise NotImplementedError(f"{type(self).__name__} does not implement levels")

    def with_detections(self, most: int) -> Self:
        """Return the settings with a number of detections for up to ``most`` objects, if it is open."""
        raise NotImplementedError(f"{type(self).__name__} does not implement with_detections")

    def planned(self, sides: NDArray[np.float64]) -> Self:
        """Return the settings with anchors planned from the sides (N, D) of objects, if they are ``auto``."""
        return self.model_copy(update={"anchors": self.anchors.planned(sides, self.levels)})


def plan_detections(most: int) -> int:
    """Return the most detections of an image, where images of the training have up to ``most`` objects.

    It is three times as many, for larger images and for wrong detections, and at least 100.
    """
    return max(DETECTIONS, 3 * most)


def plan_shapes(
    sides: NDArray[np.float64], levels: int, per_level: int
) -> tuple[tuple[tuple[float, ...], ...], ...]:
    """Plan anchors from the objects of a training set.

    The levels' sizes are geometrically spaced between the 5th and the 95th percentile of the objects' sizes, at
    least by a factor of 1.4, and their proportions are the centers of ``per_level`` clusters (k-means on
    logarithms, started from quantiles).

    Args:
        sides: (N, D) sides of the objects' boxes in voxels, N at least 1.
        levels: number of levels.
        per_level: number of anchors of a level.

    Returns:
        Sides in voxels: level → anchor → axis.
    """
    logs = np.log(np.maximum(np.asarray(sides, dtype=np.float64), 1.0))
    sizes = logs.mean(axis=1)
    low, high = np.quantile(sizes, (0.05, 0.95))
    middle, step = (low + high) / 2, max((high - low) / max(1, levels - 1), np.log(1.4))
    scales = middle + step * (np.arange(levels) - (levels - 1) / 2)
    proportions = _cluster(logs - sizes[:, None], per_level)
    return tuple(
        tuple(tuple(round(float(side), 2) for side in np.exp(scale + shape)) for shape in proportions)
        for scale in scales
    )


def _cluster(points: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return ``count`` cluster centers of ``points`` (N, D), in a fixed order."""
    centered = points - points.mean(axis=0)
    direction = np.linalg.svd(centered, full_matrices=False)[2][0]
    along = centered @ (direction * np.sign(direction[np.abs(direction).argmax()]))
    quantiles = np.quantile(along, (np.arange(count) + 0.5) / count)
    centers = points[np.abs(along[:, None] - quantiles).argmin(axis=0)]
    for _ in range(20):
        nearest = ((points[:, None] - centers) ** 2).sum(axis=2).argmin(axis=1)
        moved = [
            points[nearest == k].mean(axis=0) if (nearest == k).any() else centers[k] for k in range(count)
        ]
        centers = np.stack(moved)
    return centers


def grid_anchors(
    shapes: Sequence[Sequence[tuple[float, ...]]],
    image_size: Sequence[int],
    features: Sequence[torch.Tensor],
    *,
    rounded: bool = True,
) -> list[torch.Tensor]:
    """Place the anchors of each level on its feature map.

    Args:
        shapes: sides in voxels: level → anchor → axis.
        image_size: size of the padded image.
        features: of each level, (B, C, *S).
        rounded: round corners around the origin to whole voxels, as torchvision does.

    Returns:
        For each level (|S|·A, 2·D): by position in the order of the axes, then by shape.
    """
    levels: list[torch.Tensor] = []
    for level, feature in zip(shapes, features, strict=True):
        grid = tuple(feature.shape[2:])
        sides = torch.tensor(list(level), device=feature.device)
        corners = torch.cat([-sides, sides], dim=1) / 2
        corners = corners.round() if rounded else corners
        steps = [size // cells for size, cells in zip(image_size, grid, strict=True)]
        axes = [torch.arange(n, device=feature.device) * step for n, step in zip(grid, steps, strict=True)]
        centers = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 1, len(grid))
        levels.append((centers.repeat(1, 1, 2) + corners).reshape(-1, 2 * len(grid)))
    return levels
