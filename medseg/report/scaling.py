"""Gray values and sizes of pictures: intensity windows, conversion to uint8, resizing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medseg.report.palette import Bytes

Array = NDArray[Any]


def as_rgb(image: Array) -> Array:
    """Repeat the gray values of (H, W) in three channels; (H, W, 3) is returned unchanged."""
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def intensity_window(image: Array, low_percentile: float, high_percentile: float) -> tuple[float, float]:
    """Return the values that become black and white; equal if the image has a single value."""
    finite = np.asarray(image)[np.isfinite(image)]
    if not finite.size:
        return 0.0, 0.0
    low, high = np.percentile(finite, (low_percentile, high_percentile))
    if high <= low:
        low, high = finite.min(), finite.max()
    return float(low), float(high)


def stretch(image: Array, window: tuple[float, float]) -> Bytes:
    """Map an intensity window to 0 to 255; values outside are clipped, non-finite ones are black."""
    low, high = window
    if high <= low:
        return np.zeros(np.shape(image), np.uint8)
    values = np.where(np.isfinite(image), image, low).astype(np.float64)
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def as_gray(image: Bytes) -> Bytes:
    """Convert (H, W, 3) to gray values (H, W); (H, W) is returned unchanged."""
    return image if image.ndim == 2 else np.array(Image.fromarray(image).convert("L"))


def resize(image: Array, size: tuple[int, int], dtype: type[np.generic], how: Image.Resampling) -> Array:
    """Resize an image (H, W[, C]) to (height, width) as uint8, float32 or int32."""
    picture = Image.fromarray(np.ascontiguousarray(image, dtype))
    return np.array(picture.resize((size[1], size[0]), how))


def resize_label(label: Array, size: tuple[int, int]) -> Array:
    """Resize a label map (H, W) by nearest neighbor."""
    return resize(label, size, np.int32, Image.Resampling.NEAREST)
