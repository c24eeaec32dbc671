"""Tables for papers: one row per label with mean, interval and n of each metric, as Markdown and LaTeX."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medseg.metrics.tables.columns import is_distance, title_of
from medseg.metrics.tables.coverage import split_by_rule

PAPER_COLUMNS = ("dice", "nsd", "hd95", "assd", "cldice", "lesion_f1")
"""Columns of a table that does not name others; those that an evaluation lacks are left out."""

MARKDOWN_MARK = "<!-- medseg evaluate -->"
LATEX_MARK = "% medseg evaluate; needs \\usepackage{booktabs}"

_LATEX = str.maketrans(
    {char: f"\\{char}" for char in "&%$#_{}"}
    | {
        "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "–": "--",
        "²": "$^2$", "³": "$^3$", "≤": r"$\leq$", "<": "$<$", ">": "$>$",
    }
)  # fmt: skip


def markdown_table(summary: Mapping[str, Any], columns: Sequence[str] | None = None) -> str:
    """Format the summary of an evaluation as a Markdown table, followed by its definitions.

    Args:
        summary: result of ``summarize``, with ``coverage`` if an evaluation made it.
        columns: metrics, in order. If None, ``PAPER_COLUMNS``.
    """
    table = _Table.of(summary, columns)
    lines = ["| " + " | ".join(map(escape_markdown, row)) + " |" for row in (table.head, *table.rows)]
    lines.insert(1, "|---|" + "---:|" * (len(table.head) - 1))
    return "\n".join([MARKDOWN_MARK, "", *lines, "", *map(escape_markdown, table.notes), ""])


def latex_table(summary: Mapping[str, Any], columns: Sequence[str] | None = None) -> str:
    """Format the summary of an evaluation as a LaTeX tabular (booktabs), followed by its definitions.

    Args:
        summary: as for :func:`markdown_table`.
        columns: metrics, in order. If None, ``PAPER_COLUMNS``.
    """
    table = _Table.of(summary, columns)
    head, *rows = [" & ".join(map(escape_latex, row)) + r" \\" for row in (table.head, *table.rows)]
    notes = " ".join(map(escape_latex, table.notes))
    return "\n".join(
        [
            LATEX_MARK,
            r"\begin{tabular}{l" + "r" * (len(table.head) - 1) + "}",
            *(r"\toprule", head, r"\midrule", *rows, r"\bottomrule"),
            r"\end{tabular}",
            rf"\par\footnotesize {notes}",
            "",
        ]
    )


def describe_table(summary: Mapping[str, Any], columns: Sequence[str] = ()) -> list[str]:
    """Return sentences that define the numbers of a table: intervals, units, tolerance, misses, cases.

    Args:
        summary: as for :func:`markdown_table`.
        columns: metrics of the table; without any, all definitions are given.
    """
    defined = summary["definitions"]
    unit, shown = defined["unit"], columns or ("nsd", "hd95")
    notes = [
        "Mean over n cases with its 95% bootstrap interval (BCa, extended to Student's t); n is given in the "
        "cell where it differs.",
        "Missed: cases in which the reference contains the structure and the prediction does not; "
        "spurious: the opposite.",
    ]
    if any(map(is_distance, shown)):
        notes.append(f"Missed and spurious structures: {defined['misses_rule']}.")
    if {*shown} & {"nsd"} or any(map(is_distance, shown)):
        notes.append(
            f"Surfaces: {defined['surface']}; tolerance of NSD: "
            f"{_tolerance(defined[f'tolerance_{unit}'], unit)}."
        )
    return notes + _coverage_notes(summary)


@dataclass(frozen=True)
class _Table:
    """Cells of a table as text, and sentences below it."""

    head: list[str]
    rows: list[list[str]]
    notes: list[str]

    @classmethod
    def of(cls, summary: Mapping[str, Any], columns: Sequence[str] | None) -> _Table:
        labels: Mapping[str, Any] = summary["labels"]
        present = {name for entry in labels.values() for name in entry["metrics"]}
        wanted = [name for name in columns or PAPER_COLUMNS if columns or name in present]
        unknown = sorted({*wanted} - present) if labels else []
        if unknown:
            raise ValueError(f"columns {unknown} are not in the summary, which has {sorted(present)}")
        unit = summary["definitions"]["unit"]
        head = ["label", "n", "missed", "spurious", *(title_of(name, unit) for name in wanted)]
        rows = [_row(name, entry, wanted) for name, entry in labels.items()]
        return cls(head, rows, describe_table(summary, wanted))


def _row(name: str, entry: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    metrics, structures = entry["metrics"], entry["structures"]
    cases = metrics[columns[0]]["n"] if columns else 0
    missed, spurious = f"{structures['missed']} of {structures['in_reference']}", str(structures["spurious"])
    return [name, str(cases), missed, spurious, *(_cell(metrics[one], cases, one) for one in columns)]


def _cell(described: Mapping[str, Any], cases: int, column: str) -> str:
    """Return mean and interval, with n where it differs from that of the row."""
    if not described["n"]:
        return "–"
    digits = 2 if is_distance(column) else 3
    parts: list[str] = []
    if not math.isnan(described["ci_low"]):
        parts.append(f"{described['ci_low']:.{digits}f} to {described['ci_high']:.{digits}f}")
    if described["n"] != cases:
        parts.append(f"n = {described['n']}")
    return f"{described['mean']:.{digits}f}" + (f" ({'; '.join(parts)})" if parts else "")


def _coverage_notes(summary: Mapping[str, Any]) -> list[str]:
    coverage = summary.get("coverage")
    if not coverage:
        return []
    notes = [f"{coverage['scored']} of {coverage['references']} references scored."]
    for kind, text in (("missing", "without a prediction"), ("failed", "could not be compared")):
        counted, left_out = split_by_rule(coverage, kind)
        notes += [f"{len(counted)} {text}, counted with the worst scores."] if counted else []
        notes += [f"{len(left_out)} {text}, left out."] if left_out else []
    version = summary.get("provenance", {}).get("medseg")
    return [*notes, f"medseg {version}."] if version else notes


def _tolerance(tolerance: float | Mapping[str, float], unit: str) -> str:
    if not isinstance(tolerance, Mapping):
        return f"{tolerance:g} {unit}"
    return ", ".join(f"{name} {value:g} {unit}" for name, value in tolerance.items())


def escape_latex(text: str) -> str:
    """Return text for LaTeX.

    Example:
        >>> escape_latex("lobe_1 < 5%")
        'lobe\\\\_1 $<$ 5\\\\%'
    """
    return text.translate(_LATEX)


def escape_markdown(text: str) -> str:
    """Return text for a cell or a line of Markdown: without HTML, and without ends of cells.

    Example:
        >>> escape_markdown("<b>a|b</b>, p < 0.001")
        '&lt;b>a\\\\|b&lt;/b>, p < 0.001'
    """
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text).replace("|", "\\|").replace("\n", " ")
