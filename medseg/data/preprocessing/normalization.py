"""Intensity normalization: each scheme is a Spec that maps a (C, *S) array to a (C, *S) float32 array.

The class attribute ``voxelwise`` is true if the result for a voxel depends on its own value alone.
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
"""Ratio of standard deviation to mean up to which a channel counts as constant: rounding error, not signal."""


class ZScore(Spec):
    """Standardize each channel to mean 0 and standard deviation 1 over all its voxels.

    Example:
        >>> ZScore()(np.array([[1.0, 3.0]])).tolist()
        [[-1.0, 1.0]]
    """

    voxelwise: ClassVar[bool] = False
    name: Literal["zscore"] = "zscore"

    def __call__(self, array: Array) -> Array:
        """Normalize a (C, *S) array; a constant channel becomes 0."""
        return np.stack([_standardize(c, c) for c in array])


class ZScoreNonzero(Spec):
    """Standardize each channel over its nonzero voxels; zeros stay 0 (for skull-stripped scans)."""

    voxelwise: ClassVar[bool] = False
    name: Literal["zscore_nonzero"] = "zscore_nonzero"

    def __call__(self, array: Array) -> Array:
        """Normalize a (C, *S) array; a channel of zeros stays 0."""
        return np.stack([np.where(c != 0, _standardize(c, c[c != 0]), np.float32(0)) for c in array])


class CT(Spec):
    """Clip Hounsfield units to a window, then standardize them with statistics of the dataset's foreground.

    This is the scheme of Isensee et al. 2021 (doi:10.1038/s41592-020-01008-z). Values that are None are
    computed from the foreground of the training cases.

    Attributes:
        low: lower limit of the window; default: the 0.5 percentile.
        high: upper limit of the window; default: the 99.5 percentile.
        mean: default: mean of the clipped foreground.
        std: default: standard deviation of the clipped foreground.

    Example:
        >>> scheme = CT(low=-100, high=200, mean=50, std=50)
        >>> scheme(np.array([[-1000, 50, 100]])).tolist()
        [[-3.0, 0.0, 1.0]]
    """

    voxelwise: ClassVar[bool] = True
    name: Literal["ct"] = "ct"
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    std: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _check_order(self) -> CT:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low ({self.low}) must not be above high ({self.high})")
        return self

    def fit(self, foreground: Array) -> CT:
        """Compute the values that are None from a sample of foreground intensities (N,).

        Raises:
            ConfigError: if a given limit contradicts the computed one.
        """
        low = self.low if self.low is not None else float(np.percentile(foreground, 0.5))
        high = self.high if self.high is not None else float(np.percentile(foreground, 99.5))
        if low > high:
            raise ConfigError(
                f"preprocess.normalize: low ({low:g}) is above high ({high:g}); one of them was computed from "
                "the foreground of the training cases",
                hint="Set both low and high.",
            )
        clipped = np.clip(foreground, low, high)
        mean = self.mean if self.mean is not None else float(clipped.mean())
        std = self.std if self.std is not None else max(float(clipped.std()), _EPSILON)
        return CT(low=low, high=high, mean=mean, std=std)

    def __call__(self, array: Array) -> Array:
        """Normalize a (C, *S) array; call :meth:`fit` first if a value is None."""
        if self.low is None or self.high is None or self.mean is None or self.std is None:
            raise ValueError("ct normalization needs low, high, mean and std; call fit() first")
        clipped = np.clip(array.astype(np.float32), self.low, self.high)
        return ((clipped - self.mean) / self.std).astype(np.float32)


class Percentile(Spec):
    """Rescale each channel so that its ``low`` and ``high`` percentiles become 0 and 1, and clip the rest.

    Example:
        >>> Percentile(low=0, high=100)(np.array([[0, 5, 10]])).tolist()
        [[0.0, 0.5, 1.0]]
    """

    voxelwise: ClassVar[bool] = False
    name: Literal["percentile"] = "percentile"
    low: float = Field(default=0.5, ge=0, lt=100)
    high: float = Field(default=99.5, gt=0, le=100)

    @model_validator(mode="after")
    def _check_order(self) -> Percentile:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        return self

    def __call__(self, array: Array) -> Array:
        """Normalize a (C, *S) array; a constant channel becomes 0."""
        return np.stack([rescale(c, *np.percentile(c, (self.low, self.high))) for c in array])


class Range(Spec):
    """Rescale a fixed range of intensities to [0, 1] and clip the rest (8-bit pictures: 0 to 255).

    Example:
        >>> Range(low=0, high=200)(np.array([[-5, 50, 300]])).tolist()
        [[0.0, 0.25, 1.0]]
    """

    voxelwise: ClassVar[bool] = True
    name: Literal["range"] = "range"
    low: float = 0.0
    high: float = 255.0

    @model_validator(mode="after")
    def _check_order(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        return self

    def __call__(self, array: Array) -> Array:
        """Normalize a (C, *S) array."""
        return np.stack([rescale(c, self.low, self.high) for c in array])


class ImageNet(Spec):
    """Scale 8-bit RGB to [0, 1] and standardize it with ImageNet's statistics (Russakovsky et al. 2015)."""

    voxelwise: ClassVar[bool] = True
    name: Literal["imagenet"] = "imagenet"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __call__(self, array: Array) -> Array:
        """Normalize a (3, *S) array of values from 0 to 255."""
        if len(array) != 3:
            raise ValueError(f"imagenet normalization needs 3 channels, got {len(array)}")
        shape = (3,) + (1,) * (array.ndim - 1)
        mean, std = (np.array(v, dtype=np.float32).reshape(shape) for v in (self.mean, self.std))
        return ((array.astype(np.float32) / 255 - mean) / std).astype(np.float32)


NormalizeConfig = Annotated[
    ZScore | ZScoreNonzero | CT | Percentile | Range | ImageNet, Field(discriminator="name")
]


def standardize(channel: Array, mean: float, std: float) -> Array:
    """Subtract ``mean`` from a channel and divide by ``std``; 0 if ``std`` is only rounding error."""
    if std <= _CONSTANT * abs(mean):
        return np.zeros(channel.shape, dtype=np.float32)
    result = np.empty(channel.shape, dtype=np.float32)
    for part in slabs(channel):
        result[part] = (channel[part] - np.float64(mean)) / np.float64(std)
    return result


def rescale(channel: Array, low: float, high: float) -> Array:
    """Map [low, high] linearly to [0, 1] and clip the rest; 0 if ``high`` does not exceed ``low``."""
    if high <= low:
        return np.zeros(channel.shape, dtype=np.float32)
    return np.clip((channel.astype(np.float32) - low) / (high - low), 0, 1).astype(np.float32)


def _standardize(channel: Array, sample: Array) -> Array:
    if sample.size == 0:
        return np.zeros(channel.shape, dtype=np.float32)
    return standardize(channel, *mean_and_std(sample))
