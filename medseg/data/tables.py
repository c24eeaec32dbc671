"""Label tables of public datasets: names, values and colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from medseg.data.labels import Labels

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class LabelTable:
    """Names, values and colours (RGB) of a dataset's labels, in the order of its classes."""

    names: tuple[str, ...]
    values: tuple[int, ...]
    colours: tuple[Colour, ...]
    background: bool

    def labels(
        self, *, ignore_value: int | None = None, others: Literal["refuse", "background", "ignore"] = "refuse"
    ) -> Labels:
        """The labels as medseg trains them."""
        table = {name: (value,) for name, value in zip(self.names, self.values, strict=True)}
        return Labels(names=table, ignore_value=ignore_value, others=others, background=self.background)


def voc_colour(value: int) -> Colour:
    """Pascal VOC's colour of a value: its bits, dealt to red, green and blue from the highest down."""
    red = green = blue = 0
    for bit in range(8):
        red |= (value >> (3 * bit) & 1) << (7 - bit)
        green |= (value >> (3 * bit + 1) & 1) << (7 - bit)
        blue |= (value >> (3 * bit + 2) & 1) << (7 - bit)
    return red, green, blue


_VOC_NAMES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)

VOC = LabelTable(_VOC_NAMES, tuple(range(21)), tuple(voc_colour(v) for v in range(21)), background=True)
"""Pascal VOC (Everingham et al. 2010), 20 classes and background."""

_CITYSCAPES: tuple[tuple[str, int, Colour], ...] = (
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)

CITYSCAPES = LabelTable(
    tuple(name for name, _, _ in _CITYSCAPES),
    tuple(value for _, value, _ in _CITYSCAPES),
    tuple(colour for _, _, colour in _CITYSCAPES),
    background=False,
)
"""Cityscapes (Cordts et al. 2016): the 19 classes of its benchmark, by their label ids."""
