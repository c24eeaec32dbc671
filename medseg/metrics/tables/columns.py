"""Meaning of the columns of a table of scores: unit, direction, and the value of a missed structure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

Row = Mapping[str, Any]

IDENTITY = ("case", "label", "name", "status")
"""Columns that name a row; ``status`` is added by an evaluation."""

CONTEXT = ("spacing", "diagonal", "tolerance")
"""Columns that describe how a row was computed; their names end with the unit, such as ``diagonal_mm``."""

COUNTS = ("tp", "fp", "fn", "tn")
"""Columns of voxel counts."""

DISTANCES = ("hd", "hd95", "assd", "masd")
"""Columns of distances that every evaluation has."""

Kind = Literal["score", "distance", "error", "size", "count", "other"]
"""What a column holds: a score (0 worst, 1 best), a distance, an error (0 best), a size, a number of voxels or
objects, or another quantity."""

KINDS: dict[str, Kind] = {
    **dict.fromkeys(COUNTS, "count"),
    **dict.fromkeys(DISTANCES, "distance"),
    **dict.fromkeys(("ece", "brier", "nll"), "error"),
    **dict.fromkeys(("rvd", "relative_volume_difference"), "other"),
    **dict.fromkeys(("lesion_tp", "lesion_fp", "lesion_fn", "lesion_fp_any"), "count"),
    **dict.fromkeys(("fp_volume", "fn_volume"), "size"),
    "brats_hd95": "distance",
}
"""Kinds of the columns that :func:`kind_of` does not infer from the name."""

_CONTEXT_PREFIXES = tuple(f"{name}_" for name in CONTEXT)
_SIZE_ENDINGS = {"_mm3": "mm3", "_mm2": "mm2", "_px": "px"}
_TITLES = {
    "dice": "Dice",
    "iou": "IoU",
    "nsd": "NSD",
    "cldice": "clDice",
    "boundary_iou": "boundary IoU",
    "mcc": "MCC",
    "ece": "ECE",
    "brier": "Brier score",
    "nll": "NLL",
}
_COUNT_PREFIXES = ("lesions_",)


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


def kind_of(column: str) -> Kind:
    """Return the kind of a column.

    Example:
        >>> kind_of("hd95"), kind_of("nsd"), kind_of("reference_volume_mm3")
        ('distance', 'score', 'size')
    """
    if column in KINDS:
        return KINDS[column]
    if column.startswith("hd") and column[2:].replace(".", "").replace("_", "").isdigit():
        return "distance"
    if column.endswith("_error"):
        return "error"
    if any(column.endswith(ending) for ending in _SIZE_ENDINGS):
        return "size"
    return "count" if column.startswith(_COUNT_PREFIXES) else "score"


def is_distance(column: str) -> bool:
    """Whether a column holds distances, which are infinite for a missed structure."""
    return kind_of(column) == "distance"


def direction(column: str) -> Literal["higher", "lower"] | None:
    """Return which values of a column are better; None for sizes, counts and signed differences."""
    kind = kind_of(column)
    if kind == "score":
        return "higher"
    return "lower" if kind in ("distance", "error") else None


def unit_of(column: str, unit: str) -> str:
    """Return the unit of a column: that of distances for distances, ``1`` for ratios.

    Example:
        >>> unit_of("hd95", "mm"), unit_of("dice", "mm"), unit_of("reference_volume_mm3", "mm")
        ('mm', '1', 'mm3')
    """
    if is_distance(column):
        return unit
    for ending, size in _SIZE_ENDINGS.items():
        if column.endswith(ending):
            return size
    if kind_of(column) == "size":
        return f"{unit}3"
    return "voxels" if column in COUNTS else "1"


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
    kind = kind_of(column)
    if kind == "distance":
        return diagonal
    return 0.0 if kind == "score" else math.nan


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
