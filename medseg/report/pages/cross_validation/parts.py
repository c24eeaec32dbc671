"""Parts that the reports of cross-validations share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from medseg.report.html import Content, bullets, join, number, paragraph, plural, tag
from medseg.report.table import Column, Table

DIVISION = (
    "Cases of one patient, and copies of an image, are in one fold; labels and their sizes are distributed "
    "evenly."
)


def failed_folds(failed: Sequence[str]) -> Markup:
    """Return the folds that failed; nothing if there are none."""
    if not failed:
        return Markup("")
    text = Markup("{} failed, so there is no ensemble:").format(plural(len(failed), "fold"))
    return join([paragraph(text), bullets(failed)])


def training_table(trainings: Sequence[Mapping[str, Any]]) -> Markup:
    """Return a table of the trainings with links to their reports.

    Args:
        trainings: for each fold its ``fold``, ``minutes`` of updates, number of training ``cases``, and
            ``report``, a path relative to the page.
    """
    columns = [Column("fold"), Column("training cases", "number"), Column("minutes of updates", "number")]
    rows: list[list[Content]] = [
        [
            tag("a", f"fold {one['fold']}", href=one["report"]),
            number(int(one["cases"])),
            number(one["minutes"], 1),
        ]
        for one in trainings
    ]
    return Table("Trainings", columns, rows).html() if rows else Markup("")
