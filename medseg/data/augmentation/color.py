"""Random color transforms of pictures in RGB, (3, H, W), changed in place.

Stains act on intensities in [0, 1]. Pictures that are normalized in another way are rescaled first: the
smallest and the largest value of each channel in the patch count as 0 and 1, and the result is scaled back.
"""

from __future__ import annotations

import numpy as np
import torch

from medseg.data.augmentation.options import ColorConfig, RandomConfig, StainConfig
from medseg.geometry import Array

_LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the gray value (ITU-R BT.601)."""

_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""Optical densities of hematoxylin, eosin and DAB in red, green and blue (Ruifrok and Johnston 2001)."""
_DARKEST = 1 / 256
"""Smallest transmitted light, which bounds the optical density."""


def change_color(image: torch.Tensor, config: ColorConfig, rng: np.random.Generator) -> None:
    """Rotate the hue around the gray axis and scale the saturation."""
    angle = np.deg2rad(rng.uniform(-config.hue, config.hue))
    saturation = 1 + rng.uniform(-config.saturation, config.saturation)
    _mix(image, color_matrix(angle, saturation))


def color_matrix(angle: float, saturation: float) -> Array:
    """Return the (3, 3) map of RGB that turns and scales colors around the gray axis; gray stays gray.

    Example:
        >>> np.allclose(color_matrix(0.0, 1.0), np.eye(3)), np.allclose(color_matrix(0.5, 2.0).sum(axis=1), 1)
        (True, True)
    """
    gray = np.full((3, 3), 1 / 3)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)  # turns by 90° around (1, 1, 1)
    return gray + saturation * (np.cos(angle) * (np.eye(3) - gray) + np.sin(angle) * cross)


def vary_stain(image: torch.Tensor, config: StainConfig, rng: np.random.Generator) -> None:
    """Scale and shift the amounts of the stains, the optical densities along the rows of ``_STAINS``."""
    stains = _STAINS / np.linalg.norm(_STAINS, axis=1, keepdims=True)
    scale = 1 + rng.uniform(-config.scale, config.scale, size=3)
    shift = rng.uniform(-config.shift, config.shift, size=3)
    low, width = _rescale(image)
    density = image.clamp_(_DARKEST, 1).log_().neg_()
    # density = stainsᵀ · amounts
    _mix(density, stains.T @ np.diag(scale) @ np.linalg.inv(stains.T))
    density.add_(_column(stains.T @ shift).to(image.device))
    density.neg_().exp_().clamp_(0, 1)
    image.mul_(width).add_(low)


def to_gray(image: torch.Tensor, config: RandomConfig, rng: np.random.Generator) -> None:
    """Replace each channel by the weighted mean of the channels."""
    _mix(image, np.tile(_LUMA, (3, 1)))


def shuffle_channels(image: torch.Tensor, config: RandomConfig, rng: np.random.Generator) -> None:
    """Permute the channels."""
    image.copy_(image[torch.from_numpy(rng.permutation(len(image))).to(image.device)])


def _mix(image: torch.Tensor, matrix: Array) -> None:
    """Multiply the channels by a (3, 3) matrix."""
    weights = torch.from_numpy(matrix.astype(np.float32)).to(image.device)
    image.copy_((weights @ image.reshape(3, -1)).reshape(image.shape))


def _rescale(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rescale to [0, 1] in place, and return what was subtracted and divided by, (3, 1, 1) each."""
    low, high = torch.aminmax(image.reshape(3, -1), dim=1)
    if float(low.min()) >= 0 and float(high.max()) <= 1:
        low, high = torch.zeros_like(low), torch.ones_like(high)
    low, width = low.reshape(3, 1, 1), (high - low).clamp_min(1e-6).reshape(3, 1, 1)
    image.sub_(low).div_(width)
    return low, width


def _column(values: Array) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32)).reshape(3, 1, 1)
