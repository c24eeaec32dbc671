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
_WEAK = 0.1
"""Quantile of the foreground, from the side of the background: regions do not go beyond it."""


def change_background(
    image: torch.Tensor, foreground: torch.Tensor, config: BackgroundConfig, rng: np.random.Generator
) -> None:
    """Move the background toward the intensities of the foreground within smooth random regions, in place.

    The change goes up to the intensities of the faintest tenth of the foreground, so that no object becomes
    darker than surroundings in which it was brighter, or the reverse. Objects then lie in surroundings of an
    intermediate intensity, as nuclei in cytoplasm; regions of that intensity without objects are background.
    The foreground is left as it is.

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
            distance = _distance(channel[foreground], channel[background])
        else:
            distance = sign * 2 * channel.std().item()
        channel.add_(weight, alpha=strength * distance)


def _distance(foreground: torch.Tensor, background: torch.Tensor) -> float:
    """Difference from the mean of the background to the weak end of the foreground; 0 if they overlap."""
    mean = background.mean()
    sign = 1.0 if foreground.mean() >= mean else -1.0
    sample = foreground[:: max(1, foreground.numel() // 4096)]
    weak = torch.quantile(sample, _WEAK if sign > 0 else 1 - _WEAK)
    return sign * max(sign * (weak - mean).item(), 0.0)
