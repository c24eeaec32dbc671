"""Touching cells: synthetic pictures and volumes of ellipsoids, with a number for each."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image
from scipy import ndimage

from medseg.geometry import Array

_ATTEMPTS = 40
"""Positions that are tried for each cell."""
_CLOSEST = 0.8
"""Smallest distance between two centers, as a share of the sum of the radii in between."""


def draw_cells(
    shape: Sequence[int],
    spacing: Sequence[float],
    rng: np.random.Generator,
    *,
    radius: tuple[float, float] = (6.0, 9.0),
    filled: float = 0.35,
) -> Array:
    """Draw touching ellipsoids.

    Args:
        shape: of the result (*S).
        spacing: distance between voxels, mm.
        rng: source of all random numbers.
        radius: smallest and largest half axis, mm.
        filled: share of the volume that cells cover, about.

    Returns:
        (*S) uint16: 0 for background, 1, 2, … for cells.

    Example:
        >>> cells = draw_cells((32, 32), (1.0, 1.0), np.random.default_rng(0), radius=(3.0, 5.0))
        >>> cells.shape, int(cells.max()) > 2
        ((32, 32), True)
    """
    extent = np.asarray(shape) * np.asarray(spacing)
    grid = np.meshgrid(
        *((np.arange(n) + 0.5) * mm for n, mm in zip(shape, spacing, strict=True)), indexing="ij"
    )
    points = np.stack(grid, axis=-1)
    nearest = np.ones(tuple(shape))  # squared distance to the center of the cell, 1 on its surface
    cells = np.zeros(tuple(shape), np.uint16)
    centers: list[Array] = []
    radii: list[float] = []
    mean = float(np.mean(radius))
    for _ in range(int(_ATTEMPTS * extent.prod() * filled / mean ** len(shape))):
        if (cells > 0).mean() >= filled:
            break
        axes = rng.uniform(*radius, len(shape))
        beside = bool(centers) and rng.random() < 0.8  # next to another cell
        center = rng.uniform(0, 1, len(shape)) * extent
        if beside:
            direction = rng.normal(size=len(shape))
            other = int(rng.integers(len(centers)))
            reach = 0.9 * (radii[other] + float(axes.mean()))
            center = centers[other] + reach * direction / np.linalg.norm(direction)
        if ((center < 0) | (center > extent)).any():
            continue
        distances = [
            np.linalg.norm(center - one) / (r + axes.mean()) for one, r in zip(centers, radii, strict=True)
        ]
        if min(distances, default=1.0) < _CLOSEST:
            continue
        turn = np.linalg.qr(rng.normal(size=(len(shape), len(shape))))[0]
        squared = (((points - center) @ turn / axes) ** 2).sum(axis=-1)
        own = squared < nearest
        if own.any():
            centers.append(center)
            radii.append(float(axes.mean()))
            cells[own] = len(centers)
            nearest = np.minimum(nearest, squared)
    return cells


def draw_image(cells: Array, spacing: Sequence[float], rng: np.random.Generator) -> Array:
    """Draw the microscopy image of cells: each has its own brightness, blurred and with noise.

    Args:
        cells: (*S), of :func:`draw_cells`.
        spacing: distance between voxels, mm.
        rng: source of all random numbers.

    Returns:
        (*S) float32.
    """
    brightness = rng.uniform(0.5, 1.0, int(cells.max()) + 1)
    brightness[0] = 0.15
    sigma = [0.7 / mm * min(spacing) for mm in spacing]
    image = ndimage.gaussian_filter(brightness[cells], sigma)
    edges = np.zeros(cells.shape)
    for axis in range(cells.ndim):
        differs = np.diff(cells.astype(np.int32), axis=axis) != 0
        edges += np.pad(differs, [(0, 1) if other == axis else (0, 0) for other in range(cells.ndim)])
    image -= 0.25 * ndimage.gaussian_filter((edges > 0).astype(np.float64), sigma)
    return (image + rng.normal(0, 0.05, cells.shape)).astype(np.float32)


def write_cells(
    folder: Path,
    cases: int = 20,
    shape: Sequence[int] = (64, 64, 64),
    spacing: Sequence[float] = (1.0, 1.0, 3.0),
) -> None:
    """Write pictures (PNG) or volumes (NIfTI) of touching cells: ``images`` and ``labels`` (numbers of cells).

    Args:
        folder: is created.
        cases: number of images.
        shape: of each image, with two or three axes.
        spacing: of the voxels, mm; pictures do not record it.
    """
    affine = np.diag([*spacing, *(1.0,) * (4 - len(spacing))])
    for number in range(cases):
        rng = np.random.default_rng(number)
        cells = draw_cells(shape, spacing, rng)
        image = draw_image(cells, spacing, rng)
        for name in ("images", "labels"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        if len(shape) == 2:
            gray = np.clip(200 * image, 0, 255).astype(np.uint8)
            for name, pixels in (("images", gray), ("labels", cells)):
                Image.fromarray(pixels).save(folder / name / f"cells_{number:02d}.png")
            continue
        for name, voxels in (("images", np.round(1000 * image).astype(np.int16)), ("labels", cells)):
            nib.save(nib.Nifti1Image(voxels, affine), folder / name / f"cells_{number:02d}.nii.gz")


if __name__ == "__main__":
    write_cells(Path(sys.argv[1] if len(sys.argv) > 1 else "data/cells"))
