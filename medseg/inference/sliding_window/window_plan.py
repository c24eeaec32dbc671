"""Positions of sliding windows over an image, and the weights of their voxels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Literal

import torch

from medseg.data.loading.sampling.cropping import Border
from medseg.inference.options import Blend

Spread = Literal["clipped", "even"]

Starts = tuple[int, ...]
"""Start index of a window along each axis of the padded image."""


@dataclass(frozen=True)
class WindowPlan:
    """Plan windows of one size over an image (*S), sorted along the streaming axis.

    An image smaller than a window is padded on both sides; if the padding is odd, the end gets one voxel more.
    Coordinates refer to the padded image. Iterating yields the starts of each window.

    Attributes:
        shape: shape of the image.
        size: shape of the windows.
        overlap: fraction of a window that the next window covers too, 0 to below 1.
        spread: ``clipped`` places windows at steps of size · (1 - overlap) and moves the last one back to the
            end of the image (MONAI); ``even`` places the same number of windows at equal distances, rounded
            (nnU-Net).
        border: what windows contain beyond the border of a smaller image: zeros, or the image mirrored at its
            border.
        along: streaming axis. If None, the axis along which the fewest sums are incomplete at once.

    Example:
        >>> list(WindowPlan((10, 4), (4, 4), overlap=0.5))
        [(0, 0), (2, 0), (4, 0), (6, 0)]
    """

    shape: tuple[int, ...]
    size: tuple[int, ...]
    overlap: float
    spread: Spread = "clipped"
    along: int | None = None
    border: Border = "zeros"

    def __post_init__(self) -> None:
        if len(self.shape) != len(self.size):
            raise ValueError(
                f"window size {self.size} has {len(self.size)} axes, the image {self.shape} {len(self.shape)}"
            )

    @cached_property
    def padding(self) -> tuple[tuple[int, int], ...]:
        """Number of voxels added before and after the image along each axis."""
        missing = [max(0, window - length) for length, window in zip(self.shape, self.size, strict=True)]
        return tuple((n // 2, n - n // 2) for n in missing)

    @cached_property
    def padded(self) -> tuple[int, ...]:
        """Shape of the padded image."""
        return tuple(max(length, window) for length, window in zip(self.shape, self.size, strict=True))

    @cached_property
    def starts(self) -> tuple[Starts, ...]:
        """Starts of the windows along each axis, in ascending order."""
        starts = clipped_starts if self.spread == "clipped" else even_starts
        return tuple(starts(n, w, self.overlap) for n, w in zip(self.padded, self.size, strict=True))

    @cached_property
    def axis(self) -> int:
        """The streaming axis; the first one if several are equally good."""
        if self.along is not None:
            return self.along
        open_sums = [window / length for length, window in zip(self.padded, self.size, strict=True)]
        return min(range(len(open_sums)), key=lambda axis: (round(open_sums[axis], 6), axis))

    def __len__(self) -> int:
        return math.prod(len(one) for one in self.starts)

    def __iter__(self) -> Iterator[Starts]:
        order = [self.axis, *(a for a in range(len(self.shape)) if a != self.axis)]
        for starts in product(*(self.starts[a] for a in order)):
            yield tuple(starts[order.index(a)] for a in range(len(order)))


def clipped_starts(length: int, window: int, overlap: float) -> Starts:
    """Place windows as MONAI: at steps of int(window · (1 - overlap)), at least 1.

    The last window ends with the image.
    """
    step = window if length == window else max(1, int(window * (1 - overlap)))
    count = math.ceil((length - window) / step) + 1
    return tuple(min(i * step, length - window) for i in range(count))


def even_starts(length: int, window: int, overlap: float) -> Starts:
    """Place windows as nnU-Net: at equal distances from start to end of the image (Isensee et al. 2021)."""
    count = math.ceil((length - window) / max(1, window * (1 - overlap))) + 1
    step = (length - window) / (count - 1) if count > 1 else 0.0
    return tuple(round(i * step) for i in range(count))


def window_weights(size: Sequence[int], blend: Blend = "gaussian", sigma_scale: float = 0.125) -> torch.Tensor:
    """Compute the weights of the voxels of a window.

    Args:
        size: shape of the window.
        blend: ``gaussian`` for a Gaussian around the center of the window, with maximum 1, clamped to at least
            0.001 after the product over axes, as in MONAI. Otherwise, all weights are 1.
        sigma_scale: standard deviation of the Gaussian as a fraction of the window size.

    Returns:
        Weights (*S), float32.
    """
    if blend != "gaussian":
        return torch.ones(*size)
    weight = torch.ones(())
    for length in size:
        middle = (length - 1) / 2
        x = torch.arange(length, dtype=torch.float32) - middle
        bell = torch.exp(-(x**2) / (2 * (sigma_scale * length) ** 2))
        weight = weight[..., None] * bell
    return weight.clamp(min=1e-3)
