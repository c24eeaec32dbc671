"""Label tables of public datasets: names, values and colors."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from medseg.data.labels.schema import Color, LabelSchema, Others

TableName = Literal["voc", "cityscapes", "ade20k", "coco", "coco_stuff"]


@dataclass(frozen=True)
class LabelTable:
    """Names, values and colors (RGB) of a dataset's labels, in the order of its classes."""

    names: tuple[str, ...]
    values: tuple[int, ...]
    colors: tuple[Color, ...]

    @property
    def background(self) -> bool:
        """Whether the first label is background; tables of fully labeled scenes have no background."""
        return self.names[0] == "background"

    def schema(self, *, ignore_value: int | None = None, others: Others = "refuse") -> LabelSchema:
        """Build the schema of the table.

        Args:
            ignore_value: value of ignored pixels; None if none are ignored.
            others: treatment of undeclared values.
        """
        return LabelSchema(
            names={name: (value,) for name, value in zip(self.names, self.values, strict=True)},
            colors=dict(zip(self.names, self.colors, strict=True)),
            ignore_value=ignore_value,
            others=others,
            background=self.background,
        )


@cache
def label_table(name: TableName) -> LabelTable:
    """Read the label table of a public dataset from ``label_tables/NAME.csv`` (value, name, r, g, b).

    * ``voc``: Pascal VOC (Everingham et al. 2010), 20 classes and background; its annotations ignore 255.
    * ``cityscapes``: the 19 classes of its benchmark (Cordts et al. 2016), by label id.
    * ``ade20k``: SceneParse150 (Zhou et al. 2017), 1 to 150; 0 is ignored. Names: the first of each line in
      objectInfo150.txt; colors: color150 (both github.com/CSAILVision/sceneparsing), in which road and
      skyscraper share a color.
    * ``coco``: the objects of COCO (Lin et al. 2014, arXiv:1405.0312, appendix) by category id, 1 to 90. The
      annotations use 80 of them; the other ten are gray here.
    * ``coco_stuff``: the 171 classes of COCO-Stuff (Caesar et al. 2018; labels.txt in
      github.com/nightrome/cocostuff); a value is the id less 1, as in its pixel maps, and 255 is ignored.
      Colors: of the 80 things as in github.com/cocodataset/panopticapi, of the 91 stuff classes as in
      github.com/nightrome/cocostuffapi.

    Example:
        >>> label_table("voc").names[:2]
        ('background', 'aeroplane')
    """
    text = (files("medseg.data.labels.names") / "label_tables" / f"{name}.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    return LabelTable(
        names=tuple(row["name"] for row in rows),
        values=tuple(int(row["value"]) for row in rows),
        colors=tuple((int(row["r"]), int(row["g"]), int(row["b"])) for row in rows),
    )
