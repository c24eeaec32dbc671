"""Shape of a U-Net: patch size, strides, kernels and features, and what they cost.

The rules are nnU-Net's (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z; here those of its version 2). This
module needs neither torch nor the data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

Axes = tuple[int, ...]
"""One number per spatial axis."""

MIN_EDGE = 4
"""An axis is halved while this many voxels remain."""
CONVS = 2
"""Convolutions of a level, in the encoder and in the decoder."""
THIN = 8
"""Channels of a thin level, which has one convolution in the encoder and one in the decoder."""


@dataclass(frozen=True)
class Topology:
    """Patch and levels of a U-Net, the full resolution first.

    Attributes:
        patch_size: voxels of a patch.
        strides: from the level above to each level; the first one is from the image to level 0, 1 along every
            axis or 2 in a network that computes at half the resolution.
        kernels: kernel of each level.
        features: channels of each level.
        thin: whether level 0 is thin: it places outlines at the resolution of the image, at a small cost.
    """

    patch_size: Axes
    strides: tuple[Axes, ...]
    kernels: tuple[Axes, ...]
    features: tuple[int, ...]
    thin: bool = False

    @property
    def levels(self) -> int:
        """Number of levels."""
        return len(self.strides)

    @property
    def divisor(self) -> Axes:
        """Total stride along each axis; it divides the patch size."""
        return _product(self.strides)

    @property
    def level_sizes(self) -> list[Axes]:
        """Size of the feature maps of each level."""
        scales = accumulate(self.strides, lambda a, b: tuple(x * y for x, y in zip(a, b, strict=True)))
        return [tuple(n // s for n, s in zip(self.patch_size, scale, strict=True)) for scale in scales]

    @property
    def voxels(self) -> int:
        """Number of voxels of a patch."""
        return math.prod(self.patch_size)

    def feature_elements(self, classes: int) -> int:
        """Count the elements of all feature maps of one patch, nnU-Net's measure of memory.

        Each level has the results of its convolutions in the encoder, and in the decoder those of the
        transposed convolution and of its convolutions; the finest level has the logits.

        Args:
            classes: channels of the logits.
        """
        sizes = [f * math.prod(size) for f, size in zip(self.features, self.level_sizes, strict=True)]
        total = sum(CONVS * n for n in sizes) + sum((CONVS + 1) * n for n in sizes[:-1]) + classes * self.voxels
        return total - 2 * (CONVS - 1) * sizes[0] if self.thin else total

    def multiply_adds(self, channels: int, classes: int) -> int:
        """Count the multiplications of a forward pass of one patch, the measure of its time.

        Args:
            channels: of the image.
            classes: channels of the logits.
        """
        total, inputs = classes * self.features[0] * self.voxels, channels
        for level, size in enumerate(self.level_sizes):
            own, kernel, voxels = self.features[level], math.prod(self.kernels[level]), math.prod(size)
            thin = self.thin and level == 0
            total += kernel * voxels * own * (inputs if thin else inputs + own)  # encoder
            inputs = own
            if level + 1 < self.levels:  # decoder: upsampling, then skip and upsampled features
                total += voxels * own * self.features[level + 1]
                total += kernel * voxels * own * (2 if thin else 3) * own
        return total

    def halved(self) -> Topology:
        """Return the topology without its finest level: level 0 has half the resolution of the image."""
        return Topology(self.patch_size, self.strides[1:], self.kernels[1:], self.features[:-1])

    def thinned(self) -> Topology:
        """Return the topology with a thin level 0; the others have the features of the level above."""
        return replace(self, features=(THIN, *self.features[:-1]), thin=True)

    def with_features(self, base: int, most: int) -> Topology:
        """Return the topology with features ``base``, 2 ``base``, … up to ``most``, below a thin level."""
        if self.thin:
            return replace(self, features=(THIN, *features(self.levels - 1, base, most)))
        return replace(self, features=features(self.levels, base, most))

    def permuted(self, order: Sequence[int]) -> Topology:
        """Return the topology with its axes in another order: axis i is the former axis ``order[i]``."""
        return Topology(
            patch_size=permute(self.patch_size, order),
            strides=tuple(permute(one, order) for one in self.strides),
            kernels=tuple(permute(one, order) for one in self.kernels),
            features=self.features,
            thin=self.thin,
        )


def permute(values: Axes, order: Sequence[int]) -> Axes:
    """Return ``values[order[0]], values[order[1]], …``."""
    return tuple(values[i] for i in order)


def features(levels: int, base: int = 32, most: int = 320) -> tuple[int, ...]:
    """Return the channels of each level: doubled from level to level, up to ``most``.

    Example:
        >>> features(5)
        (32, 64, 128, 256, 320)
    """
    return tuple(min(base * 2**level, most) for level in range(levels))


def build_topology(
    size: Sequence[float], spacing: Sequence[float], *, base: int = 32, most: int = 320, max_levels: int = 99
) -> Topology:
    """Plan the levels for a patch, and pad the patch to a multiple of their total stride.

    An axis is halved while at least 8 voxels remain (12 if no other axis is halved with it) and while its
    spacing is below twice the finest spacing of the axes that can be halved. The kernel along an axis is 1
    until the spacing is below twice the finest one, and 3 from then on; it is 3 at the coarsest level.

    Args:
        size: wanted patch size in voxels.
        spacing: of the voxels.
        base: features of the finest level.
        most: largest number of features.
        max_levels: largest number of levels.

    Example:
        >>> build_topology((35, 51, 35), (1, 1, 1)).patch_size
        (40, 56, 40)
    """
    dims = len(size)
    left, mm = [float(n) for n in size], [float(s) for s in spacing]
    strides, kernels = [(1,) * dims], list[Axes]()
    kernel = [1] * dims
    while len(strides) < max_levels:
        halved = _halved_axes(left, mm)
        if not halved:
            break
        kernel = [3 if k == 3 or s / min(mm) < 2 else 1 for k, s in zip(kernel, mm, strict=True)]
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if axis in halved else 1 for axis in range(dims)))
        left = [math.ceil(n / 2) if axis in halved else n for axis, n in enumerate(left)]
        mm = [s * 2 if axis in halved else s for axis, s in enumerate(mm)]
    kernels.append((3,) * dims)
    patch = tuple(math.ceil(n / d) * d for n, d in zip(size, _product(strides), strict=True))
    return Topology(patch, tuple(strides), tuple(kernels), features(len(strides), base, most))


def _halved_axes(size: Sequence[float], spacing: Sequence[float]) -> list[int]:
    able = [axis for axis, n in enumerate(size) if n >= 2 * MIN_EDGE]
    finest = min((spacing[axis] for axis in able), default=0.0)
    able = [axis for axis in able if spacing[axis] / finest < 2]
    if len(able) == 1 and size[able[0]] < 3 * MIN_EDGE:
        return []
    return able


def _product(strides: Sequence[Axes]) -> Axes:
    return tuple(math.prod(axis) for axis in zip(*strides, strict=True))
