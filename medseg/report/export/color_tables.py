"""Names and colors of labels in the formats of 3D Slicer and ITK-SNAP."""

from __future__ import annotations

from collections.abc import Iterator

from medseg.data.labels.schema import Color, LabelSchema
from medseg.report.palette import Legend


def slicer_color_table(labels: LabelSchema) -> str:
    """Return the text of a color table of 3D Slicer, ``.ctbl``.

    To use it, load the table and select it under "Show options" when the label map is added.

    Example:
        >>> labels = LabelSchema.model_validate({"names": {"background": 0, "left lung": 3}})
        >>> print(slicer_color_table(labels))
        # Color table of 3D Slicer: value, name, red, green, blue, opacity
        0 background 0 0 0 0
        3 left_lung 86 180 233 255
        <BLANKLINE>
    """
    lines = ["# Color table of 3D Slicer: value, name, red, green, blue, opacity"]
    for value, name, (red, green, blue), drawn in _entries(labels):
        plain = "_".join(name.split()) or f"label_{value}"
        lines.append(f"{value} {plain} {red} {green} {blue} {255 if drawn else 0}")
    return "\n".join(lines) + "\n"


def itksnap_labels(labels: LabelSchema) -> str:
    """Return the text of a label description file of ITK-SNAP (Segmentation > Import Label Descriptions).

    Example:
        >>> labels = LabelSchema.model_validate({"names": {"background": 0, "lung": 3}})
        >>> itksnap_labels(labels).splitlines()[-1]
        '    3   86  180  233        1  1  1    "lung"'
    """
    lines = [
        "################################################",
        "# ITK-SnAP Label Description File",
        "# File format:",
        "# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL",
        "################################################",
    ]
    for value, name, (red, green, blue), drawn in _entries(labels):
        shown, text = int(drawn), "Clear Label" if value == 0 and not drawn else name.replace('"', "'")
        lines.append(f'{value:5d} {red:4d} {green:4d} {blue:4d} {shown:8d} {shown:2d} {shown:2d}    "{text}"')
    return "\n".join(lines) + "\n"


def _entries(labels: LabelSchema) -> Iterator[tuple[int, str, Color, bool]]:
    """Yield value, name, color, and whether it is drawn, by value."""
    legend = Legend.of(labels)
    palette = legend.palette(len(labels.names))
    entries = [
        (value, name, (int(color[0]), int(color[1]), int(color[2])), index >= legend.first)
        for index, ((name, values), color) in enumerate(zip(labels.names.items(), palette, strict=True))
        for value in values
    ]
    yield from sorted(entries)
