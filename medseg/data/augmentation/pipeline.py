"""``Augmenter``: draws and applies the augmentation of one sample.

All random numbers come from the NumPy generator of the caller, never from a global state, so that the
augmentation of a sample follows from its address.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from medseg.data.augmentation import color, intensity
from medseg.data.augmentation.background import change_background
from medseg.data.augmentation.mixing import mix_style
from medseg.data.augmentation.options import AugmentConfig
from medseg.data.augmentation.spatial import SpatialTransform, draw_transform

Step = tuple[str, Callable[[torch.Tensor, Any, np.random.Generator], None]]

_COLOR: tuple[Step, ...] = (
    ("stain", color.vary_stain),
    ("color", color.change_color),
    ("gray", color.to_gray),
    ("channel_shuffle", color.shuffle_channels),
)
"""For pictures in RGB; they come first, because they need the colors of the file."""

_INTENSITY: tuple[Step, ...] = (
    ("inversion", intensity.invert),
    ("histogram", intensity.change_histogram),
    ("bias_field", intensity.apply_bias_field),
    ("illumination", intensity.add_illumination),
    ("noise", intensity.add_noise),
    ("blur", intensity.random_blur),
    ("sharpen", intensity.sharpen),
    ("brightness", intensity.change_brightness),
    ("shift", intensity.shift_intensity),
    ("contrast", intensity.change_contrast),
    ("low_resolution", intensity.simulate_low_resolution),
    ("inverted_gamma", intensity.change_inverted_gamma),
    ("gamma", intensity.change_gamma),
)
"""In order; for all channels together or each alone."""


class Augmenter:
    """Draws and applies an augmentation.

    Args:
        config: parameters of the augmentation.
        spatial_dims: 2 or 3.
        rgb: whether an image with three channels is a picture in RGB (not slices of a volume); by default, all
            2D images with three channels are.

    Attributes:
        config: parameters at the position that was set, at first those of the start of the training.

    Example:
        >>> augmenter = Augmenter(AugmentConfig(), spatial_dims=2)
        >>> rng = np.random.default_rng([0, 0, 0])
        >>> transform = augmenter.draw_transform(rng, spacing=(1.0, 1.0), patch_size=(8, 8))
        >>> size = transform.source_size((8, 8))
        >>> image, label = torch.ones(1, *size), torch.ones(1, *size).int()
        >>> image, label = augmenter.apply_spatial(image, label, transform, (8, 8))
        >>> augmenter.apply_intensity(image, rng).shape
        torch.Size([1, 8, 8])
    """

    def __init__(self, config: AugmentConfig, spatial_dims: int, rgb: bool | None = None) -> None:
        self._whole = config
        self.spatial_dims = spatial_dims
        self.rgb = spatial_dims == 2 if rgb is None else rgb
        self.set_position(0.0)

    def set_position(self, position: float) -> bool:
        """Use the augmentation of a position in the training, from 0 to 1; return whether it changed."""
        before = getattr(self, "config", None)
        self.config = self._whole.at(position)
        self._color = _used(_COLOR, self.config) if self.rgb else []
        self._intensity = _used(_INTENSITY, self.config)
        return before is not None and before != self.config

    def draw_transform(
        self, rng: np.random.Generator, spacing: Sequence[float], patch_size: Sequence[int] | None = None
    ) -> SpatialTransform:
        """Draw the spatial transform of one sample; with ``spacing`` (mm), rotations are rotations in space."""
        return draw_transform(self.config, rng, spacing, patch_size)

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
        return transform.apply(image, label, patch_size)

    def draws_style(self, rng: np.random.Generator) -> bool:
        """Draw whether the sample takes the style of another training case."""
        style = self.config.style
        return style.probability > 0 and rng.random() < style.probability

    def apply_intensity(
        self,
        image: torch.Tensor,
        rng: np.random.Generator,
        style: torch.Tensor | None = None,
        foreground: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Draw and apply the intensity transforms.

        Args:
            image: (C, *P) float32, normalized.
            rng: source of all random numbers.
            style: (C, *P) patch of another case whose intensities are mixed in, if any.
            foreground: (*P) bool, voxels of any class other than the background; without it, ``background`` is
                not applied.

        Returns:
            A new (C, *P) image.
        """
        image = image.clone(memory_format=torch.contiguous_format)
        if style is not None:
            mix_style(image, style, self.config.style, rng)
        background = self.config.background
        if foreground is not None and background.probability > 0 and rng.random() < background.probability:
            change_background(image, foreground, background, rng)
        if len(image) == 3:
            for name, change in self._color:
                options = getattr(self.config, name)
                if rng.random() < options.probability:
                    change(image, options, rng)
        for name, change in self._intensity:
            options = getattr(self.config, name)
            if rng.random() < options.probability:
                for channels in self._groups(image, rng):
                    change(channels, options, rng)
        dropout = self.config.channel_dropout
        if dropout.probability > 0 and rng.random() < dropout.probability:
            intensity.drop_channel(image, dropout, rng)
        return image

    def _groups(self, image: torch.Tensor, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        """The channels that get the same random values, as views."""
        if len(image) == 1 or rng.random() >= self.config.per_channel:
            return (image,)
        return image.split(1)


def _used(steps: Sequence[Step], config: AugmentConfig) -> list[Step]:
    """The transforms with a probability above 0."""
    return [step for step in steps if getattr(config, step[0]).probability > 0]
