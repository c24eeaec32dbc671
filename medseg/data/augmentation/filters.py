"""Fast building blocks of intensity transforms: Gaussian blur, resolution, curves, statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from medseg.data.augmentation.fields import along_axis
from medseg.geometry import Array

_TRUNCATE = 3.5
"""Radius of a Gaussian kernel in standard deviations."""
_LONG = 160
"""Length of an axis up to which the product with a matrix is the fastest way to filter along it."""


def blur(image: torch.Tensor, sigmas: Sequence[float]) -> torch.Tensor:
    """Blur an image with a Gaussian along each axis; edges are repeated outside.

    Args:
        image: (C, *P) float32.
        sigmas: standard deviation along each spatial axis, voxels.

    Returns:
        A new (C, *P) image.
    """
    for axis, sigma in enumerate(sigmas, start=1):
        radius = max(1, math.ceil(_TRUNCATE * sigma))
        kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
        kernel /= kernel.sum()
        length = image.shape[axis]
        if length > _LONG:
            image = _add_shifted(image, kernel[radius:], axis)
        else:
            image = along_axis(_convolution_matrix(length, kernel), image, axis)
    return image


def _convolution_matrix(length: int, kernel: Array) -> torch.Tensor:
    """Return the (n, n) matrix of a convolution whose input repeats its ends outside."""
    radius = len(kernel) // 2
    columns = np.clip(np.arange(length)[:, None] + np.arange(-radius, radius + 1), 0, length - 1)
    matrix = np.zeros((length, length))
    np.add.at(matrix, (np.arange(length)[:, None], columns), kernel[None, :])
    return torch.from_numpy(matrix.astype(np.float32))


def _add_shifted(image: torch.Tensor, half: Array, axis: int) -> torch.Tensor:
    """Convolve along an axis with a symmetric kernel, given from its middle on."""
    radius, length = len(half) - 1, image.shape[axis]
    ends = [image.narrow(axis, at, 1).expand(*image.shape[:axis], radius, *image.shape[axis + 1 :])
            for at in (0, length - 1)]  # fmt: skip
    padded = torch.cat([ends[0], image, ends[1]], dim=axis)
    result = image * float(half[0])
    for shift, weight in enumerate(half[1:], start=1):
        for start in (radius - shift, radius + shift):
            result.add_(padded.narrow(axis, start, length), alpha=float(weight))
    return result


def lower_resolution(image: torch.Tensor, factors: Sequence[float]) -> torch.Tensor:
    """Sample an image (C, *P) on a coarser grid by nearest neighbor, and back by linear interpolation.

    Args:
        image: (C, *P) float32.
        factors: size of the coarse grid along each axis, as a share of the size.
    """
    size = image.shape[1:]
    coarse = [max(1, round(n * factor)) for n, factor in zip(size, factors, strict=True)]
    if max(size) > _LONG:
        small = F.interpolate(image[None], coarse, mode="nearest-exact")
        mode = "bilinear" if len(size) == 2 else "trilinear"
        return F.interpolate(small, size, mode=mode, align_corners=False)[0]
    for axis, (n, m) in enumerate(zip(size, coarse, strict=True), start=1):
        nearest = ((np.arange(m) + 0.5) * n / m).astype(np.int64)
        image = image.index_select(axis, torch.from_numpy(nearest).to(image.device))
    for axis in range(len(size), 0, -1):
        image = along_axis(_linear_matrix(coarse[axis - 1], size[axis - 1]), image, axis)
    return image


def _linear_matrix(m: int, n: int) -> torch.Tensor:
    """Return the (n, m) matrix of a linear interpolation from m to n voxels over the same extent."""
    position = np.clip((np.arange(n) + 0.5) * m / n - 0.5, 0, m - 1)
    first = position.astype(int)
    matrix = np.zeros((n, m + 1))
    matrix[np.arange(n), first] = 1 - (position - first)
    matrix[np.arange(n), first + 1] = position - first
    return torch.from_numpy(matrix[:, :m].astype(np.float32))


def apply_curve(image: torch.Tensor, low: float, high: float, values: Array) -> torch.Tensor:
    """Map intensities by linear interpolation between values at equal distances from ``low`` to ``high``.

    Args:
        image: any shape, float32.
        low: intensity that becomes the first value.
        high: intensity that becomes the last value; above ``low``.
        values: (N,) at least two.

    Returns:
        A new tensor of the same shape.

    Example:
        >>> apply_curve(torch.tensor([0.0, 1.0, 3.0]), 0, 4, np.array([0, 10, 0])).tolist()
        [0.0, 5.0, 5.0]
    """
    pieces = len(values) - 1
    position = (image.reshape(-1) - low).mul_(pieces / (high - low)).clamp_(0, pieces)
    index = position.int().clamp_max_(pieces - 1)
    position -= index
    curve = torch.from_numpy(np.asarray(values, dtype=np.float32)).to(image.device)
    mapped = torch.diff(curve).index_select(0, index).mul_(position).add_(curve.index_select(0, index))
    return mapped.reshape(image.shape)


def mean_and_std(image: torch.Tensor) -> tuple[float, float]:
    """Return mean and standard deviation of all values of a contiguous tensor."""
    flat = image.reshape(-1)
    mean = float(flat.mean())
    square = float(torch.dot(flat, flat)) / max(len(flat), 1)
    variance = square - mean * mean
    if variance < 1e-4 * square:  # cancellation
        variance = float((flat - mean).square_().mean())
    return mean, math.sqrt(max(variance, 0.0))


def value_range(image: torch.Tensor) -> tuple[float, float]:
    """Return the smallest and the largest value."""
    low, high = torch.aminmax(image)
    return float(low), float(high)
