"""Where the windows over an image lie, and how much each of their voxels weighs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Literal

import torch

from medseg.inference.options import Blend

Spread = Literal["clipped", "even"]

Starts = tuple[int, ...]
"""Where a window begins, along each axis of the padded image."""


@dataclass(frozen=True)
class WindowPlan:
    """Windows of one size over an image (*S), sorted along ``axis``, the one they are streamed along.

    An image smaller than a window is padded on both sides, one voxel more at the end if it must be uneven.
    Coordinates are those of the padded image.

    Attributes:
        shape: of the image.
        size: of the windows.
        overlap: share of a window that its neighbor covers too, 0 to below 1.
        spread: ``clipped``: at steps of size · (1 - overlap), the last one moved back to the image's end
            (MONAI); ``even``: as many as such steps need, at equal distances, rounded (nnU-Net).
        along: the axis they are streamed along; none: the one along which the fewest sums are open at once.
    """

    shape: tuple[int, ...]
    size: tuple[int, ...]
    overlap: float
    spread: Spread = "clipped"
    along: int | None = None

    def __post_init__(self) -> None:
        if len(self.shape) != len(self.size):
            raise ValueError(f"a window of {self.size} voxels does not fit an image of {self.shape}")

    @cached_property
    def padding(self) -> tuple[tuple[int, int], ...]:
        """Voxels added before and after each axis."""
        missing = [max(0, window - length) for length, window in zip(self.shape, self.size, strict=True)]
        return tuple((n // 2, n - n // 2) for n in missing)

    @cached_property
    def padded(self) -> tuple[int, ...]:
        """Shape of the padded image."""
        return tuple(max(length, window) for length, window in zip(self.shape, self.size, strict=True))

    @cached_property
    def starts(self) -> tuple[Starts, ...]:
        """Beginnings of the windows along each axis, rising."""
        place = clipped_starts if self.spread == "clipped" else even_starts
        return tuple(place(n, w, self.overlap) for n, w in zip(self.padded, self.size, strict=True))

    @cached_property
    def axis(self) -> int:
        """The axis they are streamed along; the first one if several are as good."""
        if self.along is not None:
            return self.along
        open_sums = [window / length for length, window in zip(self.padded, self.size, strict=True)]
        return min(range(len(open_sums)), key=lambda axis: (round(open_sums[axis], 6), axis))

    def __len__(self) -> int:
        return math.prod(len(one) for one in self.starts)

    def __iter__(self) -> Iterator[Starts]:
        order = [self.axis, *(a for a in range(len(self.shape)) if a != self.axis)]
        for place in product(*(self.starts[a] for a in order)):
            yield tuple(place[order.index(a)] for a in range(len(order)))


def clipped_starts(length: int, window: int, overlap: float) -> Starts:
    """MONAI's windows: steps of int(window · (1 - overlap)), at least 1; the last one ends with the image."""
    step = window if length == window else max(1, int(window * (1 - overlap)))
    count = math.ceil((length - window) / step) + 1
    return tuple(min(i * step, length - window) for i in range(count))


def even_starts(length: int, window: int, overlap: float) -> Starts:
    """nnU-Net's windows: equally spread from the image's beginning to its end (Isensee et al. 2021)."""
    count = math.ceil((length - window) / max(1, window * (1 - overlap))) + 1
    step = (length - window) / (count - 1) if count > 1 else 0.0
    return tuple(round(i * step) for i in range(count))


def window_weights(size: Sequence[int], blend: Blend = "gaussian", sigma_scale: float = 0.125) -> torch.Tensor:
    """The weight (*S) float32 of each voxel of a window.

    ``gaussian``: of width sigma_scale · size around the window's middle, 1 at most and clamped to at least
    0.001 after the product over axes, as MONAI does.
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
