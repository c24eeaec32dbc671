"""Pictures of feature maps: a grid of the channels of a layer, each scaled to its own range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from medseg.report.pictures import to_uint8

Array = NDArray[Any]

_CELL, _GAP, _MARGIN = 192, 6, 14
_CAPTION, _SMALL = 15, 12
_INK, _FAINT, _PAPER = (32, 34, 37), (105, 110, 118), (255, 255, 255)


@dataclass(frozen=True)
class FeatureMap:
    """Output of one layer.

    Attributes:
        name: name of the layer.
        channels: (C, H, W), oriented for display; one slice of a volume.
        shape: shape of the whole feature map, (C, *S).
        place: description of the slice of a volume.
    """

    name: str
    channels: Array
    shape: tuple[int, ...]
    place: str = ""


def feature_grid(features: FeatureMap, most: int = 16, *, extent: Sequence[float] | None = None) -> Image.Image:
    """Draw the most active channels of a layer, numbered and each scaled to its own range.

    The activity of a channel is the standard deviation of its values; the most active channel is first.

    Args:
        features: output of the layer.
        most: number of channels to draw.
        extent: height and width of the field of view in any unit. If None, pixels are square.
    """
    channels = np.asarray(features.channels, np.float32)
    activity = channels.std(axis=(1, 2))
    order = np.argsort(-np.nan_to_num(activity), kind="stable")[:most]
    cell = _cell_size(extent or channels.shape[1:])
    columns = _columns(len(order), cell)
    rows = math.ceil(len(order) / columns)
    caption, small = ImageFont.load_default(_CAPTION), ImageFont.load_default(_SMALL)
    title, below = _captions(features, len(order))
    width = columns * (cell[1] + _GAP) - _GAP
    width = max([width, *(math.ceil(f.getlength(t)) for f, t in ((caption, title), (small, below)))])
    top = _MARGIN + _CAPTION + _SMALL + 14
    height = top + rows * (cell[0] + _GAP) - _GAP + _MARGIN
    page = Image.new("RGB", (width + 2 * _MARGIN, height), _PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((_MARGIN, _MARGIN - 4), title, _INK, caption)
    draw.text((_MARGIN, _MARGIN + _CAPTION + 4), below, _FAINT, small)
    for place, channel in enumerate(order):
        x = _MARGIN + (place % columns) * (cell[1] + _GAP)
        y = top + (place // columns) * (cell[0] + _GAP)
        page.paste(_enlarged(channels[channel], cell), (x, y))
        draw.text((x + 4, y + 3), str(channel), _PAPER, small, stroke_width=2, stroke_fill=(20, 20, 20))
    return page


def _captions(features: FeatureMap, shown: int) -> tuple[str, str]:
    count, *size = features.shape
    title = f"{features.name}: {count} x {' x '.join(map(str, size))}"  # the font has no ×
    title += f", {features.place}" if features.place else ""
    if count == 1:
        return title, "one channel, scaled to its own range"
    which = "all" if shown == count else f"the {shown} most active of {count}"
    return title, f"{which} channels, the most active first, each scaled to its own range"


def _columns(count: int, cell: tuple[int, int]) -> int:
    """Choose the columns so that the page is slightly wider than high and few cells are empty."""

    def cost(columns: int) -> float:
        rows = math.ceil(count / columns)
        return abs(math.log(0.75 * columns * cell[1] / (rows * cell[0]))) + 2 * (columns * rows - count) / count

    return min(range(1, count + 1), key=cost)


def _cell_size(extent: Sequence[float]) -> tuple[int, int]:
    """Return height and width in pixels: the longer is _CELL, the shorter at least a quarter of it."""
    height, width = extent
    scale = _CELL / max(height, width)
    return max(_CELL // 4, round(height * scale)), max(_CELL // 4, round(width * scale))


def _enlarged(channel: Array, cell: tuple[int, int]) -> Image.Image:
    """Resize a channel to the cell: voxels coarser than a pixel are kept, finer ones are averaged."""
    gray = Image.fromarray(to_uint8(channel))
    finer = channel.shape[0] > cell[0] or channel.shape[1] > cell[1]
    return gray.resize((cell[1], cell[0]), Image.Resampling.BOX if finer else Image.Resampling.NEAREST)
