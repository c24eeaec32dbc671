"""Augmentation: geometry moves image and label alike, intensity changes the image alone.

What is drawn comes from a NumPy generator handed in, never from a global state, so a sample's augmentation
follows from its address. MONAI's transforms do the work.
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

Probability = float


class AffineConfig(Spec):
    """Rotation, scaling and shear about the patch's center.

    Attributes:
        probability: share of the patches moved.
        rotate: largest angle in degrees, either way: about the picture's normal in 2D, about each axis in 3D.
        scale: smallest and largest magnification, drawn log-uniformly.
        shear: largest shear factor, either way.
    """

    probability: float = Field(default=0.0, ge=0, le=1)
    rotate: float = Field(default=0.0, ge=0, le=180)
    scale: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.0)
    shear: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _in_order(self) -> AffineConfig:
        _check_order("scale", *self.scale)
        return self


class FlipConfig(Spec):
    """Mirroring: each listed axis with its own draw."""

    probability: float = Field(default=0.0, ge=0, le=1)
    axes: tuple[int, ...] = ()


class NoiseConfig(Spec):
    """Gaussian noise with a standard deviation drawn from 0 to ``std`` (in normalized intensities)."""

    probability: float = Field(default=0.0, ge=0, le=1)
    std: float = Field(default=0.1, ge=0)


class BlurConfig(Spec):
    """Gaussian blur with a sigma drawn from a range, in voxels."""

    probability: float = Field(default=0.0, ge=0, le=1)
    sigma: tuple[PositiveFloat, PositiveFloat] = (0.5, 1.0)

    @model_validator(mode="after")
    def _in_order(self) -> BlurConfig:
        _check_order("sigma", *self.sigma)
        return self


class IntensityConfig(Spec):
    """A random change drawn from ``low`` to ``high``, with a probability."""

    probability: float = Field(default=0.0, ge=0, le=1)
    low: float = 0.0
    high: float = 0.0

    @model_validator(mode="after")
    def _in_order(self) -> IntensityConfig:
        _check_order("low, high", self.low, self.high)
        return self


def _check_order(name: str, low: float, high: float) -> None:
    if low > high:
        raise ValueError(f"{name}: {low} is above {high}; give the smaller number first")


class AugmentConfig(Spec):
    """Every number of the augmentation; see :func:`augmentation_preset` for sensible ones.

    Attributes:
        brightness: the image is multiplied by 1 + draw.
        shift: a value is added to each channel, its own draw for each.
        contrast: deviations from the mean are multiplied by 1 + draw.
        gamma: x → x^draw on intensities rescaled to 0…1, range, mean and deviation kept.
        low_resolution: down by a factor drawn from [low, high] and up again.
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
    def _positive(self) -> AugmentConfig:
        for name in ("gamma", "low_resolution"):
            low = getattr(self, name).low
            if low <= 0:
                raise ValueError(f"{name}.low is {low}; it must be above 0")
        return self


PresetName = Literal["2d", "3d", "none"]


def augmentation_preset(name: PresetName) -> AugmentConfig:
    """The stock settings for pictures (``2d``), volumes (``3d``), or none at all.

    The volumes' intensity settings follow nnU-Net's published ranges (Isensee et al. 2021), its mirroring
    does not: left and right mean something in a body, so flips are off until asked for.
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
    """One drawn geometric change: output voxel (from the patch's center) → input voxel, and mirrored axes."""

    matrix: Array | None
    flips: tuple[int, ...]

    @property
    def mirrors(self) -> bool:
        """Whether what comes out is a mirror image, in which left and right are exchanged."""
        return is_mirror_image(self.flips, self.matrix)

    def reach(self, patch_size: tuple[int, ...]) -> tuple[int, ...]:
        """The size of the region that must be cropped so that the moved patch sees no edge of its own."""
        if self.matrix is None:
            return patch_size
        extent = np.abs(self.matrix) @ np.array(patch_size)
        return tuple(int(n) for n in np.ceil(extent).astype(int) + 2)


class Augmenter:
    """Draws and applies the augmentation of one :class:`AugmentConfig`."""

    def __init__(self, config: AugmentConfig, spatial_dims: int) -> None:
        self.config = config
        self.spatial_dims = spatial_dims

    def draw_transform(self, rng: np.random.Generator, spacing: tuple[float, ...]) -> SpatialTransform:
        """Draw the geometric change of one sample; it is a rotation in mm, not in voxels of ``spacing``."""
        flip, affine = self.config.flip, self.config.affine
        flips = tuple(axis for axis in flip.axes if rng.random() < flip.probability)
        if rng.random() >= affine.probability:
            return SpatialTransform(None, flips)
        n = self.spatial_dims
        angles = np.deg2rad(rng.uniform(-affine.rotate, affine.rotate, size=1 if n == 2 else 3))
        magnification = np.exp(rng.uniform(*np.log(affine.scale)))
        shears = rng.uniform(-affine.shear, affine.shear, size=2 if n == 2 else 6)
        matrix = create_rotate(n, tuple(angles)) @ create_shear(n, tuple(shears))
        turned = np.asarray(matrix @ create_scale(n, (1 / magnification,) * n))[:n, :n]
        mm = np.array(spacing)
        return SpatialTransform(turned * mm[None, :] / mm[:, None], flips)

    def move(
        self, image: torch.Tensor, label: torch.Tensor, motion: SpatialTransform, patch_size: tuple[int, ...]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Apply a motion to (C, *R) image and (1, *R) codes, giving (C, *P) and (1, *P).

        The image is interpolated linearly, codes by nearest neighbor; outside lies 0 (an ignored code).
        """
        if motion.matrix is not None:
            matrix = np.eye(self.spatial_dims + 1)
            matrix[: self.spatial_dims, : self.spatial_dims] = motion.matrix
            image = _affine(image, matrix, patch_size, "bilinear")
            label = _affine(label, matrix, patch_size, "nearest")
        if motion.flips:
            axes = [axis + 1 for axis in motion.flips]
            image, label = torch.flip(image, axes), torch.flip(label, axes)
        return image, label

    def change(self, image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Change the intensities of a (C, *P) image."""
        self._intensity.set_random_state(seed=int(rng.integers(2**32)))
        changed = self._intensity(image)
        return _plain(changed).float().contiguous()

    @cached_property
    def _intensity(self) -> Compose:
        """The intensity transforms, those with probability 0 left out."""
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
    """A MONAI tensor without its metadata."""
    return convert_to_tensor(tensor, track_meta=False)
