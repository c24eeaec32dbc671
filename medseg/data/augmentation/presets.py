"""Named sets of augmentation settings."""

from __future__ import annotations

from typing import Any, Literal

from medseg.data.augmentation.options import (
    AffineConfig,
    AugmentConfig,
    BackgroundConfig,
    BlurConfig,
    ColorConfig,
    ElasticConfig,
    FieldConfig,
    FinalConfig,
    FlipConfig,
    HistogramConfig,
    IntensityConfig,
    NoiseConfig,
    RandomConfig,
    StainConfig,
    StyleConfig,
)

PresetName = Literal["2d", "3d", "2d_robust", "3d_robust", "none"]


def augmentation_preset(name: PresetName) -> AugmentConfig:
    """Return the augmentation of pictures (``2d``) or volumes (``3d``), or no augmentation (``none``).

    The intensity settings of volumes follow the published ranges of nnU-Net (Isensee et al. 2021). Unlike
    nnU-Net, volumes are not flipped by default, because left and right differ in a body.

    ``2d_robust`` and ``3d_robust`` are for models that are applied to images of other scanners, microscopes,
    stains and magnifications than those of the training.

    Example:
        >>> augmentation_preset("3d").affine.rotate
        20.0
    """
    if name == "none":
        return AugmentConfig()
    return {"2d": _pictures, "3d": _volumes, "2d_robust": _robust_pictures, "3d_robust": _robust_volumes}[
        name
    ]()


def _common() -> dict[str, Any]:
    return {
        "noise": NoiseConfig(probability=0.15, std=0.1),
        "blur": BlurConfig(probability=0.1, sigma=(0.5, 1.0)),
        "brightness": IntensityConfig(probability=0.15, low=-0.25, high=0.25),
        "contrast": IntensityConfig(probability=0.15, low=-0.25, high=0.35),
        "gamma": IntensityConfig(probability=0.3, low=0.7, high=1.5),
        "low_resolution": IntensityConfig(probability=0.1, low=0.5, high=1.0),
    }


def _pictures() -> AugmentConfig:
    return AugmentConfig(
        flip=FlipConfig(probability=0.5, axes=(0, 1)),
        affine=AffineConfig(probability=0.5, rotate=180, scale=(0.75, 1.35)),
        shift=IntensityConfig(probability=0.15, low=-0.1, high=0.1),
        **_common(),
    )


def _volumes() -> AugmentConfig:
    return AugmentConfig(affine=AffineConfig(probability=0.5, rotate=20, scale=(0.8, 1.25)), **_common())


def _robust_pictures() -> AugmentConfig:
    common = _common() | {
        "noise": NoiseConfig(probability=0.2, std=0.2),
        "brightness": IntensityConfig(probability=0.3, low=-0.25, high=0.25),
        "contrast": IntensityConfig(probability=0.3, low=-0.25, high=0.35),
        "gamma": IntensityConfig(probability=0.3, low=0.6, high=1.8),
    }
    return AugmentConfig(
        flip=FlipConfig(probability=0.5, axes=(0, 1)),
        affine=AffineConfig(probability=0.6, rotate=180, scale=(0.5, 2.5)),
        shift=IntensityConfig(probability=0.15, low=-0.1, high=0.1),
        illumination=FieldConfig(probability=0.15, strength=0.4),
        background=BackgroundConfig(probability=0.25, strength=(0.2, 0.7), intervals=8),
        inversion=RandomConfig(probability=0.1),
        color=ColorConfig(probability=0.2, hue=40),
        stain=StainConfig(probability=0.2),
        gray=RandomConfig(probability=0.2),
        final=FinalConfig(start=0.7),
        **common,
    )


def _robust_volumes() -> AugmentConfig:
    return AugmentConfig(
        affine=AffineConfig(probability=0.6, rotate=30, scale=(0.7, 1.4), stretch=0.1),
        elastic=ElasticConfig(probability=0.15),
        bias_field=FieldConfig(probability=0.3, strength=0.5),
        noise=NoiseConfig(probability=0.25, std=0.25),
        blur=BlurConfig(probability=0.2, sigma=(0.5, 1.5)),
        sharpen=IntensityConfig(probability=0.1, low=0.2, high=1.0),
        brightness=IntensityConfig(probability=0.2, low=-0.4, high=0.4),
        shift=IntensityConfig(probability=0.2, low=-0.3, high=0.3),
        contrast=IntensityConfig(probability=0.2, low=-0.5, high=0.5),
        gamma=IntensityConfig(probability=0.3, low=0.5, high=2.0),
        inverted_gamma=IntensityConfig(probability=0.15, low=0.5, high=2.0),
        low_resolution=IntensityConfig(probability=0.2, low=0.4, high=1.0),
        histogram=HistogramConfig(probability=0.2, knots=6, strength=0.7),
        style=StyleConfig(probability=0.1),
    )
