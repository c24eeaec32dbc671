"""Pictures and masks in the frame of a SAM: 8-bit colors, resizing, normalization, positions and masks.

The same steps as the official code, without torchvision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from medseg.geometry import Array

Preprocessing = Literal["sam", "sam2", "medsam"]
"""``sam``: the longer side is resized, ImageNet's mean and standard deviation, padded with zeros. ``sam2``:
resized to a square, the same normalization. ``medsam``: resized to a square, scaled to 0 to 1."""

Window = tuple[float, float]

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CERTAIN = 10.0
"""Absolute logit of a mask that is given as a prompt (SAM 2's ``_use_mask_as_output``)."""


@dataclass(frozen=True)
class Frame:
    """Where a picture lies in the square input of a network.

    Attributes:
        shape: height and width of the picture.
        side: side of the network's input.
        mask_side: side of the network's masks.
        preprocessing: how the picture is resized.
    """

    shape: tuple[int, int]
    side: int
    mask_side: int
    preprocessing: Preprocessing

    @property
    def resized(self) -> tuple[int, int]:
        """Height and width of the resized picture, which begins at the first row and column."""
        if self.preprocessing != "sam":
            return self.side, self.side
        scale = self.side / max(self.shape)
        height, width = (int(length * scale + 0.5) for length in self.shape)
        return height, width

    def positions(self, positions: Array) -> torch.Tensor:
        """Convert (row, column) positions (..., 2) of the picture to (x, y) of the input, (..., 2) float32."""
        scale = np.array(self.resized, np.float64) / np.array(self.shape, np.float64)
        scaled = np.asarray(positions, np.float64) * scale
        return torch.from_numpy(scaled[..., ::-1].astype(np.float32))

    def mask_prompt(self, mask: NDArray[np.bool_]) -> torch.Tensor:
        """Convert a mask (H, W) to the logits (1, mask_side, mask_side) that a network takes as prompt."""
        values = torch.from_numpy(mask.astype(np.float32))[None, None]
        height, width = (max(1, round(length * self.mask_side / self.side)) for length in self.resized)
        small = functional.interpolate(values, (height, width), mode="bilinear", antialias=True)
        padded = functional.pad(small, (0, self.mask_side - width, 0, self.mask_side - height))
        return (2 * padded[0] - 1) * _CERTAIN

    def to_picture(self, logits: torch.Tensor) -> torch.Tensor:
        """Resize the network's logits (B, K, M, M) to the picture, (B, K, H, W)."""
        if self.preprocessing == "sam":
            height, width = self.resized
            logits = _resize(logits, (self.side, self.side))[..., :height, :width]
        return _resize(logits, self.shape)


def to_colors(image: Array, window: Window | None = None) -> NDArray[np.uint8]:
    """Convert an image to 8-bit colors.

    Args:
        image: (C, H, W) with one or three channels. One channel becomes gray.
        window: values that become 0 and 255; None: 8-bit values are kept, others are scaled from their smallest
            to their largest.

    Returns:
        (H, W, 3).
    """
    if window is None and image.dtype != np.uint8:
        window = (float(image.min()), float(image.max()))
    if window is not None:
        low, high = window
        scaled = (image.astype(np.float32) - low) * (255 / max(high - low, 1e-8))
        image = np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
    colors = np.repeat(image, 3, axis=0) if len(image) == 1 else image
    return np.ascontiguousarray(np.moveaxis(colors, 0, -1), dtype=np.uint8)


def percentile_window(values: Array) -> Window:
    """Return the 0.5 and the 99.5 percentile of the voxels that are not zero, as MedSAM prepares MR.

    About a million of them are used. Where the percentiles are equal, the range of all voxels is returned.
    """
    used = values[values != 0]
    used = used[:: max(1, used.size // 1_000_000)]
    low, high = np.percentile(used, (0.5, 99.5)) if used.size else (0.0, 0.0)
    return (float(low), float(high)) if high > low else (float(values.min()), float(values.max()))


def prepare(colors: NDArray[np.uint8], frame: Frame) -> torch.Tensor:
    """Prepare a picture for a network.

    Args:
        colors: (H, W, 3).
        frame: its place in the network's input.

    Returns:
        (1, 3, side, side) float32.
    """
    if frame.preprocessing == "medsam":
        return _prepare_medsam(colors, frame.side)
    if frame.preprocessing == "sam2":  # resized in floating point, as torchvision's Resize after ToTensor
        values = torch.from_numpy(colors).permute(2, 0, 1)[None].float() / 255
        values = functional.interpolate(values, frame.resized, mode="bilinear", antialias=True)
    else:
        height, width = frame.resized
        resized = Image.fromarray(colors).resize((width, height), Image.Resampling.BILINEAR)
        values = torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None].float() / 255
    mean, std = (torch.tensor(numbers).reshape(1, 3, 1, 1) for numbers in (_MEAN, _STD))
    values = (values - mean) / std
    return functional.pad(values, (0, frame.side - values.shape[3], 0, frame.side - values.shape[2]))


def _prepare_medsam(colors: NDArray[np.uint8], side: int) -> torch.Tensor:
    from skimage.transform import resize

    resized: Any = resize(colors, (side, side), order=3, preserve_range=True, anti_aliasing=True)
    pixels = resized.astype(np.uint8).astype(np.float32)
    low, high = float(pixels.min()), float(pixels.max())
    scaled = (pixels - low) / max(high - low, 1e-8)
    return torch.from_numpy(scaled).permute(2, 0, 1)[None].contiguous()


def _resize(logits: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    return functional.interpolate(logits, shape, mode="bilinear", align_corners=False)
