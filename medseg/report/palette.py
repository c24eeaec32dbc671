"""Names and colors of labels: those of the dataset, else the default palette."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medseg.data.labels.schema import Color, LabelSchema

Bytes = NDArray[np.uint8]

# Colors of Okabe and Ito, distinct for every kind of color vision; neighbors differ most over gray.
_FIRST_COLORS = (
    (0, 0, 0),
    (86, 180, 233),  # sky blue
    (230, 90, 10),  # vermilion
    (240, 228, 66),  # yellow
    (0, 170, 125),  # bluish green
    (214, 125, 175),  # reddish purple
    (240, 165, 10),  # orange
    (40, 110, 215),  # blue
)


@dataclass(frozen=True)
class Legend:
    """Names and colors of the classes of a label map.

    Attributes:
        names: names of the classes; classes without a name are shown by number.
        colors: class → (red, green, blue); other classes have the colors of ``label_palette``, whose first
            color, black, belongs to the background.
        background: whether class 0 is background, which is not drawn.
    """

    names: Sequence[str] = ()
    colors: Mapping[int, Color] = field(default_factory=dict)
    background: bool = True

    @classmethod
    def of(cls, labels: LabelSchema) -> Legend:
        """Build the legend of classes 0 to K - 1, in the order of ``labels.names``."""
        colors = {i: labels.colors[name] for i, name in enumerate(labels.names) if name in labels.colors}
        return cls(tuple(labels.names), colors, labels.background)

    @property
    def first(self) -> int:
        """First class that is drawn."""
        return 1 if self.background else 0

    def palette(self, n: int) -> Bytes:
        """Return the colors (n, 3) uint8 of classes 0 to n - 1."""
        colors = label_palette(n + 1)[1 - self.first :][:n]
        for index, color in self.colors.items():
            if index < n:
                colors[index] = color
        return colors

    def name(self, index: int) -> str:
        """Return the name of a class."""
        return self.names[index] if index < len(self.names) else f"label {index}"


PLAIN = Legend()
"""Legend without names, with the default palette."""


def value_palette(labels: LabelSchema) -> Bytes:
    """Return the colors (256, 3) uint8 of the values in a palette picture."""
    colors = label_palette(256)
    own = Legend.of(labels).palette(len(labels.names))
    for value, color in zip(labels.output_values, own, strict=True):
        if 0 <= value < 256:
            colors[value] = color
    return colors


def label_palette(n: int) -> Bytes:
    """Return the colors (n, 3) uint8 of labels 0 to n - 1, black first.

    The color of a label does not depend on ``n``. The first eight are distinct for every kind of color vision;
    later ones step through the hues by the golden angle, at three levels of saturation and value.

    Example:
        >>> label_palette(2).tolist()
        [[0, 0, 0], [86, 180, 233]]
    """
    colors = [*_FIRST_COLORS[:n]]
    for index in range(len(_FIRST_COLORS), n):
        hue = (index * 0.6180339887) % 1.0
        saturation, value = ((0.95, 0.95), (0.55, 1.0), (0.85, 0.65))[index % 3]
        colors.append(_rgb(hue, saturation, value))
    return np.array(colors, np.uint8).reshape(n, 3)


def _rgb(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    """Convert hue, saturation and value in 0..1 to a color in 0..255."""
    ramp = np.clip(np.abs((hue * 6 + np.array((0, 4, 2))) % 6 - 3) - 1, 0, 1)
    red, green, blue = np.rint(255 * value * (1 - saturation * (1 - ramp)))
    return int(red), int(green), int(blue)
