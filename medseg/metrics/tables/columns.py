"""Columns of a table of scores: which are metrics, their units, and the value of a missed structure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from medseg.metrics.definitions import MetricInfo, metric_info

Row = Mapping[str, Any]

IDENTITY = ("case", "label", "name", "status")
"""Columns that name a row; ``status`` is added by an evaluation."""

CONTEXT = ("spacing", "diagonal", "tolerance")
"""Columns that describe how a row was computed; their names end with the unit, such as ``diagonal_mm``."""

COUNTS = ("tp", "fp", "fn", "tn")
"""Columns of voxel counts."""

DISTANCES = ("hd", "hd95", "assd", "masd")
"""Columns of distances that every evaluation has."""

_TITLES = {
    "dice": "Dice",
    "iou": "IoU",
    "nsd": "NSD",
    "cldice": "clDice",
    "boundary_iou": "boundary IoU",
    "lesion_f1": "lesion F1",
    "mcc": "MCC",
    "ece": "ECE",
    "brier": "Brier score",
    "nll": "NLL",
    "brats_hd95": "BraTS HD95",
    "brats_dice": "BraTS Dice",
}
_CONTEXT_PREFIXES = tuple(f"{name}_" for name in CONTEXT)
_SIZE = re.compile(r"(?:reference|predicted)_(?:volume|area)_(mm3|mm2|px)")


def metric_columns(rows: Iterable[Row], *, counts: bool = False) -> list[str]:
    """Return the columns of scores and sizes in their order, with voxel counts only if ``counts`` is set.

    Example:
        >>> metric_columns([{"case": "a", "dice": 0.5, "tp": 3, "diagonal_mm": 9.0}])
        ['dice']
    """
    names = dict.fromkeys(key for row in rows for key in row)
    skipped = IDENTITY if counts else IDENTITY + COUNTS
    return [name for name in names if name not in skipped and not is_context(name)]


def is_context(column: str) -> bool:
    """Whether a column describes how its row was computed."""
    return column.startswith(_CONTEXT_PREFIXES)


def is_distance(column: str) -> bool:
    """Whether a column holds distances, which are infinite for a missed structure."""
    return _info(column).unit == "mm"


def direction(column: str) -> Literal["higher", "lower"] | None:
    """Return which values of a column are better; None for sizes and signed differences.

    Example:
        >>> direction("hd95"), direction("nsd"), direction("relative_volume_difference")
        ('lower', 'higher', None)
    """
    better = _info(column).better
    return None if better == "zero" else better


def unit_of(column: str, unit: str, size_unit: str = "mm3") -> str:
    """Return the unit of a column: that of distances or sizes, ``voxels``, or ``1`` for ratios and numbers.

    Example:
        >>> unit_of("hd95", "mm"), unit_of("dice", "mm"), unit_of("reference_volume_mm3", "mm")
        ('mm', '1', 'mm3')
    """
    if named := _SIZE.fullmatch(column):
        return named[1]
    return {"mm": unit, "mm³": size_unit, "voxels": "voxels"}.get(_info(column).unit, "1")


def size_unit(columns: Iterable[str]) -> str:
    """Return the unit of the sizes of a table with these columns: mm3, mm2 or px."""
    return next((named[1] for column in columns if (named := _SIZE.fullmatch(column))), "mm3")


def title_of(column: str, unit: str) -> str:
    """Return the heading of a column, with the unit of distances.

    Example:
        >>> title_of("hd95", "mm"), title_of("dice", "mm")
        ('HD95 (mm)', 'Dice')
    """
    title = _TITLES.get(column) or (column.upper() if is_distance(column) else column.replace("_", " "))
    return f"{title} ({unit})" if is_distance(column) else title


def worst_value(column: str, diagonal: float) -> float:
    """Return the value that a missed structure has in a column: 0 for scores, ``diagonal`` for distances.

    nan for other columns, in which a missed structure has an ordinary value, such as a volume of 0.
    """
    info = _info(column)
    if info.unit == "mm":
        return diagonal
    return 0.0 if info.better == "higher" and info.worst == 0 else math.nan


def diagonal_of(row: Row) -> float:
    """Return the diagonal of the image of a row; inf if the row does not contain it."""
    for name in ("diagonal_mm", "diagonal_px"):
        if name in row:
            return float(row[name])
    return math.inf


def is_missed(row: Row) -> bool:
    """Whether the reference contains the structure and the prediction does not."""
    return _has(row, "fn") and not (_has(row, "tp") or _has(row, "fp"))


def is_spurious(row: Row) -> bool:
    """Whether the prediction contains the structure and the reference does not."""
    return _has(row, "fp") and not (_has(row, "tp") or _has(row, "fn"))


def _has(row: Row, count: str) -> bool:
    return row.get(count, 0) > 0


def _info(column: str) -> MetricInfo:
    try:
        return metric_info(column)
    except KeyError:  # a column that someone added to the table
        return MetricInfo(column, None, "", None, math.nan, "")
