"""The picture of one object that was segmented by prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from medseg.report.pictures import border
from medseg.report.scaling import as_gray, as_rgb, resize_label

Array = NDArray[Any]

_WIDTH = 320
_REFERENCE, _MASK, _HALO = (255, 255, 255), (255, 176, 0), (20, 20, 20)
_POSITIVE, _NEGATIVE = (60, 200, 90), (235, 70, 70)


@dataclass(frozen=True, eq=False)
class PromptPicture:
    """One slice: the image, both masks, and the prompts that lie in the slice.

    Attributes:
        image: (H, W, 1 or 3) uint8.
        reference, mask: (H, W) bool.
        positive, negative: (N, 2), pixels of clicks and scribbles on and beside the object.
        lines: outlines (N, 2) of boxes and lassos.
    """

    image: Array
    reference: Array
    mask: Array
    positive: Array
    negative: Array
    lines: tuple[Array, ...] = ()

    def draw(self) -> Image.Image:
        """Draw the picture, cropped to what matters: reference white, mask orange, prompts green and red."""
        top, left, bottom, right = self._crop()
        scale = _WIDTH / max(right - left, bottom - top)
        size = max(1, round((bottom - top) * scale)), max(1, round((right - left) * scale))
        window = (slice(top, bottom), slice(left, right))
        gray = self.image[window]
        shown = Image.fromarray(as_rgb(as_gray(gray[..., 0] if gray.shape[-1] == 1 else gray)))
        picture = np.array(shown.resize((size[1], size[0]), Image.Resampling.BICUBIC))
        for mask, color in ((self.reference, _REFERENCE), (self.mask, _MASK)):
            line = border(resize_label(mask[window].astype(np.uint8), size))
            picture[border(line) & ~line] = _HALO  # the line shows on light images, too
            picture[line] = color
        drawn = Image.fromarray(picture)
        pen = ImageDraw.Draw(drawn)
        for points, color in ((self.positive, _POSITIVE), (self.negative, _NEGATIVE)):
            radius = 4 if len(points) <= 20 else max(1.0, scale / 2)
            for row, column in (points - (top, left) + 0.5) * scale:
                pen.ellipse((column - radius, row - radius, column + radius, row + radius), color)
        for line in self.lines:
            corners = [(float(c), float(r)) for r, c in (line - (top, left) + 0.5) * scale]
            pen.line(corners, _POSITIVE, 2)
        return drawn

    def _crop(self) -> tuple[int, int, int, int]:
        """Return the box around both masks and the prompts, with a margin."""
        places = np.argwhere(self.reference | self.mask)
        places = np.concatenate([places, self.positive, self.negative]) if len(places) else places
        shape = np.array(self.reference.shape)
        if not len(places):
            return 0, 0, int(shape[0]), int(shape[1])
        margin = max(8, int(0.1 * np.ptp(places, axis=0).max()))
        low = np.clip(np.floor(places.min(axis=0)) - margin, 0, shape - 1).astype(int)
        high = np.clip(np.ceil(places.max(axis=0)) + 1 + margin, low + 1, shape).astype(int)
        return int(low[0]), int(low[1]), int(high[0]), int(high[1])
