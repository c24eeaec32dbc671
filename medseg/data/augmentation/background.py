"""Synthetic background: regions around the objects that are as bright as nothing in the training images was."""

from __future__ import annotations

import numpy as np
import torch

from medseg.data.augmentation.fields import smooth_field
from medseg.data.augmentation.options import BackgroundConfig

_SOFTNESS = (0.02, 0.3)
"""Width of the border of a region, in units of the field's largest value."""
_COVERED = (0.2, 0.8)
"""Share of the patch that the regions cover."""


def change_background(
    image: torch.Tensor, foreground: torch.Tensor, config: BackgroundConfig, rng: np.random.Generator
) -> None:
    """Move the background toward the intensities of the foreground within smooth random regions, in place.

    Objects then lie in surroundings of an intermediate intensity, as nuclei in cytoplasm, and regions of that
    intensity without objects are background. The foreground is left as it is.

    Args:
        image: (C, *P) float32.
        foreground: (*P) bool.
        config: strength and texture.
        rng: source of all random numbers.
    """
    size = image.shape[1:]
    field = smooth_field(rng, size, config.intervals, image.device)
    level = torch.quantile(field.reshape(-1)[:: max(1, field.numel() // 4096)], float(rng.uniform(*_COVERED)))
    weight = torch.sigmoid((level - field) / float(rng.uniform(*_SOFTNESS)))
    if config.texture > 0:
        grain = torch.from_numpy(rng.standard_normal(size, dtype=np.float32)).to(image.device)
        weight.mul_(1 + float(rng.uniform(0, config.texture)) * grain)
    strength = float(rng.uniform(*config.strength))
    background = ~foreground
    weight.mul_(background)
    inside, outside = int(foreground.sum()), int(background.sum())
    sign = 1.0 if rng.random() < 0.5 else -1.0  # without objects, either side
    for channel in image:
        if inside and outside:
            distance = (channel[foreground].mean() - channel[background].mean()).item()
        else:
            distance = sign * 2 * channel.std().item()
        channel.add_(weight, alpha=strength * distance)
