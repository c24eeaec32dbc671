"""Weights that balance classes of different sizes, for the losses and the patch sampler."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

BalanceScheme = Literal["inverse", "sqrt", "effective"]


def class_weights_from_counts(
    counts: Sequence[int], scheme: BalanceScheme, *, beta: float = 0.9999
) -> list[float]:
    """Compute one weight per class from its number of voxels, with a mean of 1 over the classes present.

    Before the normalization, the weight of a class with n voxels is:

    - ``inverse``: 1 / n
    - ``sqrt``: 1 / √n
    - ``effective``: (1 - β) / (1 - βⁿ), the inverse of the effective number of samples (Cui et al. 2019,
      arXiv:1901.05555, equation 2). It levels off at n ≫ 1 / (1 - β): with β = 0.9999, classes of more
      than about 50 000 voxels have the same weight.

    A class without voxels has weight 0.

    Args:
        counts: number of voxels of each class.
        scheme: formula of the weights.
        beta: β of ``effective``.

    Raises:
        ValueError: if a count is negative, no class has a voxel, or β is not in [0, 1).

    Example:
        >>> class_weights_from_counts([4, 1], "inverse")
        [0.4, 1.6]
    """
    if any(count < 0 for count in counts) or not any(counts):
        raise ValueError(f"class counts must not be negative, and one must be above 0; got {list(counts)}")
    if not 0 <= beta < 1:
        raise ValueError(f"beta must be at least 0 and below 1; got {beta}")
    raw = [_weight(count, scheme, beta) if count else 0.0 for count in counts]
    mean = sum(raw) / sum(count > 0 for count in counts)
    return [weight / mean for weight in raw]


def _weight(count: int, scheme: BalanceScheme, beta: float) -> float:
    if scheme == "inverse":
        return 1 / count
    if scheme == "sqrt":
        return 1 / math.sqrt(count)
    if beta == 0:
        return 1.0  # every class counts as one sample
    # 1 - βⁿ = -expm1(n log β), without the cancellation that 1 - β ** n has for β near 1
    return (1 - beta) / -math.expm1(count * math.log(beta))
