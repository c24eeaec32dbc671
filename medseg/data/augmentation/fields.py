"""Smooth random fields over a patch: cubic B-splines on a coarse grid of control points."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch


@lru_cache(maxsize=64)
def bspline_matrix(size: int, intervals: int) -> torch.Tensor:
    """Compute the values of the cubic B-splines over equal intervals at ``size`` equidistant positions.

    Args:
        size: number of positions; the first and the last are the ends of the intervals.
        intervals: number of intervals.

    Returns:
        (size, intervals + 3) float32; each row adds up to 1.

    Example:
        >>> bspline_matrix(2, 1)[0].mul(6).tolist()
        [1.0, 4.0, 1.0, 0.0]
    """
    position = np.linspace(0, intervals, size) if size > 1 else np.full(1, intervals / 2)
    first = np.minimum(position.astype(int), intervals - 1)
    t = position - first
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1)
    matrix = np.zeros((size, intervals + 3), dtype=np.float32)
    for k in range(4):
        matrix[np.arange(size), first + k] = weights[:, k] / 6
    return torch.from_numpy(matrix)


def bspline_field(coefficients: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Evaluate a tensor product of cubic B-splines.

    Args:
        coefficients: (N, *K) float32, N fields; K - 3 intervals along each axis.
        size: size *P of the result.

    Returns:
        (N, *P) float32.
    """
    field = coefficients
    for axis, n in enumerate(size, start=1):
        field = along_axis(bspline_matrix(n, field.shape[axis] - 3), field, axis)
    return field


def smooth_field(
    rng: np.random.Generator, size: Sequence[int], intervals: int, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Draw a smooth field (*P) whose largest absolute value is 1, with at most ``intervals`` per axis."""
    shape = [int(rng.integers(1, intervals + 1)) + 3 for _ in size]
    coefficients = torch.from_numpy(rng.uniform(-1, 1, (1, *shape)).astype(np.float32)).to(device)
    field = bspline_field(coefficients, size)[0]
    low, high = torch.aminmax(field)
    return field.div_(torch.maximum(-low, high).clamp_min(1e-6))


def along_axis(matrix: torch.Tensor, array: torch.Tensor, axis: int) -> torch.Tensor:
    """Multiply an array by a matrix (m, n) along an axis of length n, on the device of the array.

    Returns:
        The array with length m along the axis.
    """
    matrix = matrix.to(array.device)
    shape = array.shape
    if axis == array.ndim - 1:
        return array @ matrix.T
    product = torch.matmul(matrix, array.reshape(shape[:axis].numel(), shape[axis], shape[axis + 1 :].numel()))
    return product.reshape(*shape[:axis], len(matrix), *shape[axis + 1 :])
