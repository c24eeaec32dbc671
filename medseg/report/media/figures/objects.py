"""Pictures of objects: their masks, boxes, classes and scores over the image."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from medseg.instances.result import Instances
from medseg.report.palette import Bytes, Legend, label_palette
from medseg.report.pictures import border
from medseg.report.scaling import as_rgb

_BOXED = 60
"""Objects up to which boxes are drawn; more would cover the picture."""
_TEXT_SHARE = 0.1
"""Share of the picture that names and scores may cover; otherwise there are none."""
_ALPHA = 0.4
_MARGIN = 2


def draw_instances(image: Bytes, instances: Instances, legend: Legend) -> Bytes:
    """Draw objects over a picture: masks with borders, and, where there is room, boxes, classes and scores.

    Objects of a single class have different colors, those of several classes that of their class. Objects of
    lower scores are drawn first.

    Args:
        image: (H, W) or (H, W, 3) uint8.
        instances: the objects, of shape (H, W).
        legend: names and colors of the classes.

    Returns:
        Picture (H, W, 3) uint8.
    """
    picture = as_rgb(image).astype(np.float32)
    colors = _colors(instances, legend)
    regions = list(instances)
    order = np.argsort(instances.scores, kind="stable").tolist()
    for index in order:
        box, mask = regions[index]
        part, color = picture[box], colors[index].astype(np.float32)
        part[mask] = (1 - _ALPHA) * part[mask] + _ALPHA * color
        part[border(np.pad(mask, 1))[1:-1, 1:-1] & mask] = color
    drawn = np.rint(picture).astype(np.uint8)
    if len(instances) > _BOXED:
        return drawn
    canvas = Image.fromarray(drawn)
    pen = ImageDraw.Draw(canvas)
    texts = [f"{legend.name(int(kind))} {score:.2f}" for kind, score in
             zip(instances.classes, instances.scores, strict=True)]  # fmt: skip
    covered = sum(width * height for width, height in (_text_size(pen, text) for text in texts))
    for index in order:
        (top, bottom), (left, right) = instances.boxes[index].tolist()
        color = tuple(int(value) for value in colors[index])
        pen.rectangle((left, top, right - 1, bottom - 1), outline=color)
        if covered <= _TEXT_SHARE * drawn[..., 0].size:
            _write(pen, texts[index], (left, top), color)
    return np.asarray(canvas)


def _colors(instances: Instances, legend: Legend) -> Bytes:
    """Return the color (N, 3) of each object."""
    if len(np.unique(instances.classes)) > 1:
        return legend.palette(int(instances.classes.max()) + 1)[instances.classes]
    return label_palette(len(instances) + 1)[1:]


def _write(pen: ImageDraw.ImageDraw, text: str, corner: tuple[int, int], color: tuple[int, ...]) -> None:
    """Write a text on a background of a color above a corner, or below it at the upper edge."""
    left, top = corner
    x0, y0 = pen.textbbox((0, 0), text)[:2]
    width, height = _text_size(pen, text)
    y = top - height if top >= height else top
    pen.rectangle((left, y, left + width, y + height - 1), fill=color)
    dark = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 140
    pen.text((left + _MARGIN - x0, y + _MARGIN - y0), text, fill=(0, 0, 0) if dark else (255, 255, 255))


def _text_size(pen: ImageDraw.ImageDraw, text: str) -> tuple[int, int]:
    """Return width and height of a text with its margins, in pixels."""
    x0, y0, x1, y1 = pen.textbbox((0, 0), text)
    return int(x1 - x0) + 2 * _MARGIN, int(y1 - y0) + 2 * _MARGIN
