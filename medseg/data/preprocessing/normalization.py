"""Intensity normalization: each scheme is one Spec that computes (C, *S) → (C, *S) float32.

``voxelwise`` says whether a voxel's result depends on nothing but its own value.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from medseg.config.base import Spec
from medseg.data.chunked_statistics import mean_and_std, slabs
from medseg.errors import ConfigError
from medseg.geometry import Array

_EPSILON = 1e-8
_CONSTANT = 1e-6
"""Standard deviation over mean up to which a channel counts as constant: rounding, not signal."""


class ZScore(Spec):
    """Each channel to mean 0 and standard deviation 1 over all its voxels."""

    voxelwise: ClassVar[bool] = False
    name: Literal["zscore"] = "zscore"

    def __call__(self, array: Array) -> Array:
        """Normalize; a constant channel becomes 0."""
        return np.stack([_standardize(c, c) for c in array])


class ZScoreNonzero(Spec):
    """As ``zscore``, over the voxels that are not exactly 0, which stay 0 (skull-stripped scans)."""

    voxelwise: ClassVar[bool] = False
    name: Literal["zscore_nonzero"] = "zscore_nonzero"

    def __call__(self, array: Array) -> Array:
        """Normalize; a channel of zeros stays 0."""
        return np.stack([np.where(c != 0, _standardize(c, c[c != 0]), np.float32(0)) for c in array])


class CT(Spec):
    """Hounsfield units clipped to a window, then standardized with the dataset's foreground statistics.

    Numbers left out are taken from the training cases' foreground: its 0.5 and 99.5 percentiles, mean and
    standard deviation (the scheme of Isensee et al. 2021, doi:10.1038/s41592-020-01008-z).
    """

    voxelwise: ClassVar[bool] = True
    name: Literal["ct"] = "ct"
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    std: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> CT:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low ({self.low}) must not be above high ({self.high})")
        return self

    def fitted(self, foreground: Array) -> CT:
        """Fill in the numbers left out from a sample of foreground intensities (N,).

        Raises: ConfigError if the one of low and high that is given lies beyond the sample's other one.
        """
        low = self.low if self.low is not None else float(np.percentile(foreground, 0.5))
        high = self.high if self.high is not None else float(np.percentile(foreground, 99.5))
        if low > high:
            raise ConfigError(
                f"ct normalization: low {low:g} is above high {high:g}, one of them from the training cases' "
                "foreground; give both"
            )
        clipped = np.clip(foreground, low, high)
        mean = self.mean if self.mean is not None else float(clipped.mean())
        std = self.std if self.std is not None else max(float(clipped.std()), _EPSILON)
        return CT(low=low, high=high, mean=mean, std=std)

    def __call__(self, array: Array) -> Array:
        """Clip and standardize; call :meth:`fitted` first if a number is missing."""
        if self.low is None or self.high is None or self.mean is None or self.std is None:
            raise ValueError("ct normalization needs low, high, mean and std: fit it on the training cases")
        clipped = np.clip(array.astype(np.float32), self.low, self.high)
        return ((clipped - self.mean) / self.std).astype(np.float32)


class Percentile(Spec):
    """Each channel's ``low`` and ``high`` percentiles to 0 and 1, clipped beyond."""

    voxelwise: ClassVar[bool] = False
    name: Literal["percentile"] = "percentile"
    low: float = Field(default=0.5, ge=0, lt=100)
    high: float = Field(default=99.5, gt=0, le=100)

    @model_validator(mode="after")
    def _ordered(self) -> Percentile:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        return self

    def __call__(self, array: Array) -> Array:
        """Rescale and clip; a constant channel becomes 0."""
        return np.stack([rescale(c, *np.percentile(c, (self.low, self.high))) for c in array])


class Range(Spec):
    """A fixed range of intensities to 0…1, clipped beyond (8-bit pictures: 0 to 255)."""

    voxelwise: ClassVar[bool] = True
    name: Literal["range"] = "range"
    low: float = 0.0
    high: float = 255.0

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        return self

    def __call__(self, array: Array) -> Array:
        """Rescale and clip."""
        return np.stack([rescale(c, self.low, self.high) for c in array])


class ImageNet(Spec):
    """8-bit RGB to 0…1, then standardized with ImageNet's statistics (Russakovsky et al. 2015)."""

    voxelwise: ClassVar[bool] = True
    name: Literal["imagenet"] = "imagenet"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __call__(self, array: Array) -> Array:
        """Standardize three channels of 0…255."""
        if len(array) != 3:
            raise ValueError(f"imagenet normalization needs 3 channels, got {len(array)}")
        shape = (3,) + (1,) * (array.ndim - 1)
        mean, std = (np.array(v, dtype=np.float32).reshape(shape) for v in (self.mean, self.std))
        return ((array.astype(np.float32) / 255 - mean) / std).astype(np.float32)


NormalizeConfig = Annotated[
    ZScore | ZScoreNonzero | CT | Percentile | Range | ImageNet, Field(discriminator="name")
]


def standardize(channel: Array, mean: float, std: float) -> Array:
    """A channel less its mean, over its standard deviation; 0 where that is nothing but rounding."""
    if std <= _CONSTANT * abs(mean):
        return np.zeros(channel.shape, dtype=np.float32)
    found = np.empty(channel.shape, dtype=np.float32)
    for part in slabs(channel):
        found[part] = (channel[part] - np.float64(mean)) / np.float64(std)
    return found


def rescale(channel: Array, low: float, high: float) -> Array:
    """``low`` to 0 and ``high`` to 1, clipped beyond; 0 where they are the same."""
    if high <= low:
        return np.zeros(channel.shape, dtype=np.float32)
    return np.clip((channel.astype(np.float32) - low) / (high - low), 0, 1).astype(np.float32)


def _standardize(channel: Array, over: Array) -> Array:
    if over.size == 0:
        return np.zeros(channel.shape, dtype=np.float32)
    return standardize(channel, *mean_and_std(over))
