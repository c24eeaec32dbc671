"""Data augmentation: spatial transforms of image and label, intensity transforms of the image.

All random numbers come from the NumPy generator of the caller, never from a global state, so that the
augmentation of a sample follows from its address. The transforms are MONAI's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from monai.transforms.compose import Compose
from monai.transforms.intensity.array import (
    RandAdjustContrast,
    RandGaussianNoise,
    RandGaussianSmooth,
    RandScaleIntensity,
    RandScaleIntensityFixedMean,
    RandShiftIntensity,
)
from monai.transforms.spatial.array import Affine, RandSimulateLowResolution
from monai.transforms.utils import create_rotate, create_scale, create_shear
from monai.utils.type_conversion import convert_to_tensor
from pydantic import Field, PositiveFloat, model_validator

from medseg.config.base import Spec
from medseg.geometry import Array, is_mirror_image


class AffineConfig(Spec):
    """Rotation, scaling and shear around the center of the patch.

    Attributes:
        probability: probability of the transform.
        rotate: largest angle in degrees, in both directions: around the image normal in 2D, around each axis in
            3D.
        scale: smallest and largest magnification, drawn log-uniformly.
        shear: largest shear factor, in both directions.
    """

    probability: float = Field(default=0.0, ge=0, le=1)
    rotate: float = Field(default=0.0, ge=0, le=180)
    scale: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.0)
    shear: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _check_range(self) -> AffineConfig:
        _check_order("scale", *self.scale)
        return self


class FlipConfig(Spec):
    """Flips along axes.

    Attributes:
        probability: probability for each axis, drawn independently.
        axes: spatial axes that may be flipped.
    """

    probability: float = Field(default=0.0, ge=0, le=1)
    axes: tuple[int, ...] = ()


class NoiseConfig(Spec):
    """Gaussian noise.

    Attributes:
        probability: probability of the transform.
        std: the standard deviation is drawn between 0 and this value (in normalized intensities).
    """

    probability: float = Field(default=0.0, ge=0, le=1)
    std: float = Field(default=0.1, ge=0)


class BlurConfig(Spec):
    """Gaussian blur.

    Attributes:
        probability: probability of the transform.
        sigma: range that the standard deviation is drawn from, in voxels.
    """

    probability: float = Field(default=0.0, ge=0, le=1)
    sigma: tuple[PositiveFloat, PositiveFloat] = (0.5, 1.0)

    @model_validator(mode="after")
    def _check_range(self) -> BlurConfig:
        _check_order("sigma", *self.sigma)
        return self


class IntensityConfig(Spec):
    """A random factor or offset.

    Attributes:
        probability: probability of the transform.
        low: smallest value.
        high: largest value.
    """

    probability: float = Field(default=0.0, ge=0, le=1)
    low: float = 0.0
    high: float = 0.0

    @model_validator(mode="after")
    def _check_range(self) -> IntensityConfig:
        _check_order("low, high", self.low, self.high)
        return self


def _check_order(name: str, low: float, high: float) -> None:
    if low > high:
        raise ValueError(f"{name}: {low} is above {high}; expected the smaller number first")


class AugmentConfig(Spec):
    """Parameters of the augmentation; see :func:`augmentation_preset` for useful values.

    Attributes:
        flip: flips along axes.
        affine: rotation, scaling and shear.
        noise: Gaussian noise.
        blur: Gaussian blur.
        brightness: multiplies the image by 1 + the drawn value.
        shift: adds a value to each channel, drawn independently.
        contrast: multiplies deviations from the mean by 1 + the drawn value.
        gamma: raises intensities, rescaled to [0, 1], to the drawn power; range, mean and standard deviation
            are preserved.
        low_resolution: downsamples by a factor drawn from [low, high] and upsamples again.
    """

    flip: FlipConfig = FlipConfig()
    affine: AffineConfig = AffineConfig()
    noise: NoiseConfig = NoiseConfig()
    blur: BlurConfig = BlurConfig()
    brightness: IntensityConfig = IntensityConfig()
    shift: IntensityConfig = IntensityConfig()
    contrast: IntensityConfig = IntensityConfig()
    gamma: IntensityConfig = IntensityConfig(low=0.7, high=1.5)
    low_resolution: IntensityConfig = IntensityConfig(low=0.5, high=1.0)

    @model_validator(mode="after")
    def _check_positive(self) -> AugmentConfig:
        for name in ("gamma", "low_resolution"):
            low = getattr(self, name).low
            if low <= 0:
                raise ValueError(f"{name}.low is {low}; expected a value above 0")
        return self


PresetName = Literal["2d", "3d", "none"]


def augmentation_preset(name: PresetName) -> AugmentConfig:
    """Return the default augmentation of pictures (``2d``) or volumes (``3d``), or no augmentation (``none``).

    The intensity settings of volumes follow the published ranges of nnU-Net (Isensee et al. 2021). Unlike
    nnU-Net, volumes are not flipped by default, because left and right differ in a body.

    Example:
        >>> augmentation_preset("3d").affine.rotate
        20.0
    """
    if name == "none":
        return AugmentConfig()
    common = {
        "noise": NoiseConfig(probability=0.15, std=0.1),
        "blur": BlurConfig(probability=0.1, sigma=(0.5, 1.0)),
        "brightness": IntensityConfig(probability=0.15, low=-0.25, high=0.25),
        "contrast": IntensityConfig(probability=0.15, low=-0.25, high=0.35),
        "gamma": IntensityConfig(probability=0.3, low=0.7, high=1.5),
        "low_resolution": IntensityConfig(probability=0.1, low=0.5, high=1.0),
    }
    if name == "2d":
        return AugmentConfig(
            flip=FlipConfig(probability=0.5, axes=(0, 1)),
            affine=AffineConfig(probability=0.5, rotate=180, scale=(0.75, 1.35)),
            shift=IntensityConfig(probability=0.15, low=-0.1, high=0.1),
            **common,
        )
    return AugmentConfig(affine=AffineConfig(probability=0.5, rotate=20, scale=(0.8, 1.25)), **common)


@dataclass(frozen=True)
class SpatialTransform:
    """A drawn spatial transform.

    Attributes:
        matrix: (n, n) linear map from output to input voxels, relative to the center of the patch; None for the
            identity.
        flips: flipped axes.
    """

    matrix: Array | None
    flips: tuple[int, ...]

    @property
    def is_mirror(self) -> bool:
        """Whether the result is a mirror image, in which left and right are exchanged."""
        return is_mirror_image(self.flips, self.matrix)

    def source_size(self, patch_size: tuple[int, ...]) -> tuple[int, ...]:
        """Compute the size of the region to crop so that the transformed patch has no empty corners."""
        if self.matrix is None:
            return patch_size
        extent = np.abs(self.matrix) @ np.array(patch_size)
        return tuple(int(n) for n in np.ceil(extent).astype(int) + 2)


class Augmenter:
    """Draws and applies an augmentation.

    Args:
        config: parameters of the augmentation.
        spatial_dims: 2 or 3.
    """

    def __init__(self, config: AugmentConfig, spatial_dims: int) -> None:
        self.config = config
        self.spatial_dims = spatial_dims

    def draw_transform(self, rng: np.random.Generator, spacing: tuple[float, ...]) -> SpatialTransform:
        """Draw the spatial transform of one sample; with ``spacing`` (mm), rotations are rotations in space."""
        flip, affine = self.config.flip, self.config.affine
        flips = tuple(axis for axis in flip.axes if rng.random() < flip.probability)
        if rng.random() >= affine.probability:
            return SpatialTransform(None, flips)
        n = self.spatial_dims
        angles = np.deg2rad(rng.uniform(-affine.rotate, affine.rotate, size=1 if n == 2 else 3))
        magnification = np.exp(rng.uniform(*np.log(affine.scale)))
        shears = rng.uniform(-affine.shear, affine.shear, size=2 if n == 2 else 6)
        matrix = create_rotate(n, tuple(angles)) @ create_shear(n, tuple(shears))
        linear = np.asarray(matrix @ create_scale(n, (1 / magnification,) * n))[:n, :n]
        mm = np.array(spacing)
        return SpatialTransform(linear * mm[None, :] / mm[:, None], flips)

    def apply_spatial(
        self, image: torch.Tensor, label: torch.Tensor, transform: SpatialTransform, patch_size: tuple[int, ...]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Apply a spatial transform.

        Args:
            image: (C, *R), interpolated linearly.
            label: (1, *R) codes, interpolated by nearest neighbor.
            transform: the transform.
            patch_size: size *P of the result.

        Returns:
            Image (C, *P) and label (1, *P); voxels from outside are 0 (the code of ignored voxels).
        """
        if transform.matrix is not None:
            matrix = np.eye(self.spatial_dims + 1)
            matrix[: self.spatial_dims, : self.spatial_dims] = transform.matrix
            image = _affine(image, matrix, patch_size, "bilinear")
            label = _affine(label, matrix, patch_size, "nearest")
        if transform.flips:
            axes = [axis + 1 for axis in transform.flips]
            image, label = torch.flip(image, axes), torch.flip(label, axes)
        return image, label

    def apply_intensity(self, image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Draw and apply the intensity transforms to a (C, *P) image."""
        self._intensity.set_random_state(seed=int(rng.integers(2**32)))
        return _plain(self._intensity(image)).float().contiguous()

    @cached_property
    def _intensity(self) -> Compose:
        """The intensity transforms with a probability above 0."""
        c = self.config
        low, high = c.low_resolution.low, c.low_resolution.high
        linear = "bilinear" if self.spatial_dims == 2 else "trilinear"
        steps = [
            (c.noise, lambda p: RandGaussianNoise(prob=p, std=c.noise.std)),
            (c.blur, lambda p: RandGaussianSmooth(*(c.blur.sigma,) * 3, prob=p)),
            (c.brightness, lambda p: RandScaleIntensity((c.brightness.low, c.brightness.high), p)),
            (
                c.shift,
                lambda p: RandShiftIntensity((c.shift.low, c.shift.high), prob=p, channel_wise=True),
            ),
            (c.contrast, lambda p: RandScaleIntensityFixedMean(p, (c.contrast.low, c.contrast.high))),
            (
                c.low_resolution,
                lambda p: RandSimulateLowResolution(p, "nearest", linear, zoom_range=(low, high)),
            ),
            (c.gamma, lambda p: RandAdjustContrast(p, (c.gamma.low, c.gamma.high), retain_stats=True)),
        ]
        return Compose([make(step.probability) for step, make in steps if step.probability > 0])


def _affine(
    tensor: torch.Tensor, matrix: Array, size: tuple[int, ...], mode: Literal["bilinear", "nearest"]
) -> torch.Tensor:
    transform = Affine(affine=matrix, spatial_size=size, mode=mode, padding_mode="zeros", image_only=True)
    return _plain(transform(tensor.float())).to(tensor.dtype)


def _plain(tensor: object) -> torch.Tensor:
    """Remove the metadata of a MONAI tensor."""
    return convert_to_tensor(tensor, track_meta=False)
