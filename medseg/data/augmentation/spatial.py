"""Random spatial transforms: flips, rotation, scaling, shear and elastic displacement as one map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch

from medseg.data.augmentation.fields import bspline_field
from medseg.data.augmentation.options import AffineConfig, AugmentConfig, ElasticConfig
from medseg.data.augmentation.resampling import resample
from medseg.geometry import Array, is_mirror_image

_ANISOTROPY = 3.0
"""Ratio of spacings or of sides of the patch above which a volume is transformed within its slices only; the
threshold of nnU-Net (Isensee et al. 2021)."""


@dataclass(frozen=True)
class SpatialTransform:
    """A drawn spatial transform.

    Attributes:
        matrix: (n, n) linear map from output to input voxels, relative to the center of the patch; None for the
            identity.
        flips: flipped axes.
        displacement: (n, *K) displacements of the control points of cubic B-splines, in input voxels; None for
            no displacement.
    """

    matrix: Array | None
    flips: tuple[int, ...]
    displacement: Array | None = None

    @property
    def is_mirror(self) -> bool:
        """Whether the result is a mirror image, in which left and right are exchanged."""
        return is_mirror_image(self.flips, self.matrix)

    def source_size(self, patch_size: tuple[int, ...]) -> tuple[int, ...]:
        """Compute the size of the region to crop so that the transformed patch has no empty corners."""
        if self.matrix is None and self.displacement is None:
            return patch_size
        matrix = np.eye(len(patch_size)) if self.matrix is None else self.matrix
        extent = np.abs(matrix) @ np.array(patch_size)
        if self.displacement is not None:
            extent = extent + 2 * np.abs(self.displacement).reshape(len(patch_size), -1).max(axis=1)
        return tuple(int(n) for n in np.ceil(extent).astype(int) + 2)

    def apply(
        self, image: torch.Tensor, label: torch.Tensor, patch_size: tuple[int, ...]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Transform an image (C, *R) and its label (1, *R) to the size of the patch in one resampling."""
        if self.matrix is None and self.displacement is None:
            axes = [axis + 1 for axis in self.flips]
            return (torch.flip(image, axes), torch.flip(label, axes)) if axes else (image, label)
        matrix = np.eye(len(patch_size)) if self.matrix is None else self.matrix.copy()
        matrix[:, list(self.flips)] *= -1
        field = None
        if self.displacement is not None:
            field = bspline_field(torch.from_numpy(self.displacement.astype(np.float32)), patch_size)
        return resample(image, label, matrix, patch_size, field)


def thick_axis(spacing: Sequence[float], patch_size: Sequence[int] | None = None) -> int | None:
    """Return the axis across the thick slices of a volume, along which nothing is moved, or None.

    Slices are thick if they are more than three times as far apart as the voxels within them, or if the patch
    is so thin that its longest side is more than three times its shortest one.

    Example:
        >>> thick_axis((0.5, 0.5, 3.0)), thick_axis((1.0, 1.0, 2.0)), thick_axis((1.0, 1.0, 1.0), (16, 64, 64))
        (2, None, 0)
    """
    if len(spacing) < 3:
        return None
    coarsest = int(np.argmax(spacing))
    if spacing[coarsest] > _ANISOTROPY * max(s for axis, s in enumerate(spacing) if axis != coarsest):
        return coarsest
    if patch_size is not None and max(patch_size) > _ANISOTROPY * min(patch_size):
        return int(np.argmin(patch_size))
    return None


def draw_transform(
    config: AugmentConfig,
    rng: np.random.Generator,
    spacing: Sequence[float],
    patch_size: Sequence[int] | None = None,
) -> SpatialTransform:
    """Draw a spatial transform.

    Args:
        config: flips, affine and elastic settings.
        rng: source of all random numbers.
        spacing: distance between voxels along each axis, mm; rotations are rotations in space.
        patch_size: needed for thin patches and elastic displacement; by default, a patch with equal sides.
    """
    flip = config.flip
    flips = tuple(axis for axis in flip.axes if rng.random() < flip.probability)
    thick = thick_axis(spacing, patch_size)
    matrix = None
    if rng.random() < config.affine.probability:
        matrix = _draw_matrix(config.affine, rng, spacing, thick)
    displacement = None
    if rng.random() < config.elastic.probability:
        extent = np.array(patch_size or (64,) * len(spacing)) * np.array(spacing)
        displacement = _draw_displacement(config.elastic, rng, extent) / np.array(spacing).reshape(
            -1, *(1,) * len(spacing)
        )
        if thick is not None:
            displacement[thick] = 0
        if matrix is not None:
            displacement = np.tensordot(matrix, displacement, axes=1)
    return SpatialTransform(matrix, flips, displacement)


def _draw_matrix(
    affine: AffineConfig, rng: np.random.Generator, spacing: Sequence[float], thick: int | None
) -> Array:
    """Draw rotation · shear · scaling, from output to input voxels."""
    n = len(spacing)
    moving = [axis for axis in range(n) if axis != thick]
    matrix = np.eye(n)
    for a, b in combinations(moving, 2):
        angle = np.deg2rad(rng.uniform(-affine.rotate, affine.rotate))
        turn = np.eye(n)
        turn[[a, a, b, b], [a, b, a, b]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        matrix = matrix @ turn
    if affine.shear > 0:
        shear = np.eye(n)
        for a in moving:
            for b in moving:
                if a != b:
                    shear[a, b] = rng.uniform(-affine.shear, affine.shear)
        matrix = matrix @ shear
    magnification = np.ones(n)
    magnification[moving] = np.exp(rng.uniform(*np.log(affine.scale)))
    if affine.stretch > 0:
        limit = np.log1p(affine.stretch)
        magnification[moving] *= np.exp(rng.uniform(-limit, limit, len(moving)))
    mm = np.array(spacing)
    return (matrix / magnification[None, :]) * mm[None, :] / mm[:, None]


def _draw_displacement(elastic: ElasticConfig, rng: np.random.Generator, extent: Array) -> Array:
    """Draw displacements (n, *K) of control points in mm, for a patch of ``extent`` mm along each axis."""
    low, high = elastic.control_points
    distance = extent.max() / rng.integers(low, high + 1)
    intervals = np.maximum(np.round(extent / distance), 1).astype(int)
    share = rng.uniform(*elastic.displacement)
    drawn = rng.uniform(-1, 1, size=(len(extent), *(intervals + 3)))
    return drawn * share * (extent / intervals).reshape(-1, *(1,) * len(extent))
