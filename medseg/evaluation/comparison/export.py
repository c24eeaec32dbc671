"""Files of a comparison: JSON, CSV tables, tables for papers, and a table for challengeR."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.errors import ConfigError
from medseg.evaluation.comparison.method_pair import PairedResult
from medseg.evaluation.comparison.options import OVERALL
from medseg.evaluation.comparison.verdict import format_p, format_score
from medseg.evaluation.output import CASES_FILE
from medseg.files import write_json, write_text
from medseg.metrics import write_csv
from medseg.metrics.tables.paper import escape_latex, escape_markdown
from medseg.report.pages.case_sections import DEFAULT_LIMITS, DrawingLimits
from medseg.report.pages.comparison.cases import MethodFiles, draw_compared_cases, notable_cases
from medseg.report.pages.comparison.methods import ComparedMethods
from medseg.report.pages.comparison.page import write_comparison_page

if TYPE_CHECKING:
    from medseg.evaluation.comparison.comparison import Comparison

JSON_FILE = "comparison.json"
PAIRS_FILE = "comparison.csv"
SCORES_FILE = "paired_scores.csv"
RANKINGS_FILE = "rankings.csv"
SUBGROUPS_FILE = "subgroups.csv"
CHALLENGE_FILE = "challengeR.csv"
MARKDOWN_FILE = "comparison.md"
LATEX_FILE = "comparison.tex"
_FILES = (
    JSON_FILE, PAIRS_FILE, SCORES_FILE, RANKINGS_FILE, MARKDOWN_FILE, LATEX_FILE, CHALLENGE_FILE,
    SUBGROUPS_FILE,
)  # fmt: skip

_OTHER_FOLDER = "Choose another --output."

_HEAD = (
    "method",
    "baseline",
    "label",
    "n",
    "method's",
    "baseline's",
    "difference",
    "interval",
    "p",
    "better in",
)


def write_comparison(folder: Path | str, comparison: Comparison) -> list[Path]:
    """Write all tables of a comparison.

    ``comparison.json`` has everything. ``comparison.csv`` has one row per pair and label, ``paired_scores.csv``
    one per method, case and label as compared, ``rankings.csv`` one per scheme, label and method,
    ``subgroups.csv`` one per group, ``comparison.md`` and ``comparison.tex`` the table for papers, and
    ``challengeR.csv`` the columns task, case, algorithm and value that the R package challengeR reads, with NA
    for missing results.

    Args:
        folder: existing tables of these names are replaced.
        comparison: the comparison.

    Returns:
        The written files.

    Raises:
        ConfigError: if the folder has other files of these names.
    """
    folder = Path(folder)
    check_output(folder)
    (folder / SUBGROUPS_FILE).unlink(missing_ok=True)
    write_json(folder / JSON_FILE, comparison.to_json())
    every = (comparison, *comparison.secondary)
    write_csv(folder / PAIRS_FILE, [row for one in every for row in _pair_rows(one)])
    write_csv(folder / SCORES_FILE, [row for one in every for row in score_rows(one)])
    write_csv(folder / RANKINGS_FILE, _ranking_rows(comparison))
    if comparison.subgroups:
        write_csv(folder / SUBGROUPS_FILE, _subgroup_rows(comparison))
    write_text(folder / MARKDOWN_FILE, format_markdown(comparison))
    write_text(folder / LATEX_FILE, format_latex(comparison))
    write_text(folder / CHALLENGE_FILE, format_challenge(comparison))
    return [folder / name for name in _FILES if name != SUBGROUPS_FILE or comparison.subgroups]


def write_comparison_report(
    path: Path | str, comparison: Comparison, limits: DrawingLimits = DEFAULT_LIMITS
) -> None:
    """Write the report of a comparison: verdict, tables, plots, and pictures of the most remarkable cases.

    Cases whose files are known are drawn: those of runs, of folders of predictions, and of folders that
    ``medseg evaluate`` wrote, as long as the files are where they were.

    Args:
        path: file to write, ``.html``.
        comparison: the comparison.
        limits: number and sizes of the pictures.

    Raises:
        ExistingFileError: if the file exists and is not a page of medseg of the same kind.
    """
    content = comparison.to_json()
    cases = notable_cases(ComparedMethods(content))
    files = {one.case: _files_of(comparison, one.case) for one in cases}
    sections = draw_compared_cases(cases, files, comparison.schema, limits)
    write_comparison_page(Path(path), content, sections)


def _files_of(comparison: Comparison, case: str) -> MethodFiles:
    """Return the files of a case that still exist."""
    own = {name: comparison.files.get(name, {}).get(case) for name in comparison.methods}
    every = [one for one in own.values() if one is not None]
    image = next((one.image for one in every if one.image is not None and one.image.exists()), None)
    reference = next((one.reference for one in every if one.reference.exists()), None)
    predictions = {
        name: one.prediction
        for name, one in own.items()
        if one is not None and one.prediction is not None and one.prediction.exists()
    }
    return MethodFiles(image, reference, predictions)


def check_output(folder: Path) -> None:
    """Check that a folder can take the tables of a comparison.

    Raises:
        ConfigError: if it is a file, or has the tables of an evaluation or files of another origin.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file, expected a folder", hint=_OTHER_FOLDER, path=folder)
    if (folder / CASES_FILE).exists():
        raise ConfigError(f"{folder}: has the tables of an evaluation", hint=_OTHER_FOLDER, path=folder)
    path = folder / JSON_FILE
    if path.exists():
        try:
            content: Any = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            content = None
        if not isinstance(content, dict) or "verdict" not in content:
            raise ConfigError(
                f"{path}: exists and was not written by medseg compare", hint=_OTHER_FOLDER, path=path
            )
    elif others := [name for name in _FILES if (folder / name).exists()]:
        raise ConfigError(
            f"{folder}: has {', '.join(others)} but no {JSON_FILE}, so medseg compare did not write it",
            hint=_OTHER_FOLDER,
            path=folder,
        )


def score_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Return one row per method, case and label: the compared value, and whether it replaces a missing one."""
    table = comparison.table
    return [
        {
            "method": method,
            "case": case,
            "name": label,
            "metric": comparison.metric.name,
            "value": float(table.values[m, c, k]),
            "substituted": int(table.substituted[m, c, k]),
        }
        for m, method in enumerate(table.methods)
        for c, case in enumerate(table.cases)
        for k, label in enumerate(table.labels)
    ]


def table_rows(comparison: Comparison, pairs: Sequence[PairedResult]) -> list[tuple[str, ...]]:
    """Return the texts of a table for people, one row per comparison, below ``table_head``."""
    return [
        (
            pair.method, pair.baseline, pair.label, str(pair.n),
            format_score(comparison, pair.mean_method, unit=False),
            format_score(comparison, pair.mean_baseline, unit=False),
            format_score(comparison, pair.difference, signed=True, unit=False),
            f"{format_score(comparison, pair.ci_low, signed=True, unit=False)} to "
            f"{format_score(comparison, pair.ci_high, signed=True, unit=False)}",
            format_p(pair.p_permutation_holm).removeprefix("p ").removeprefix("= "),
            f"{pair.wins} of {pair.n}" if pair.n else "n/a",
        )
        for pair in pairs
    ]  # fmt: skip


def table_head(comparison: Comparison) -> tuple[str, ...]:
    """Return the heads of the columns of ``table_rows``."""
    unit = f" {comparison.table.unit}" if comparison.table.unit else ""
    title = f"{comparison.metric.title}{unit}"
    level = f"{1 - comparison.options.alpha:.0%} interval"
    names = {"method's": title, "baseline's": f"baseline's {title}", "interval": level}
    return tuple(names.get(head, head) for head in _HEAD)


def format_markdown(comparison: Comparison) -> str:
    """Format the verdict and the table of pairs as Markdown."""
    head = table_head(comparison)
    lines = [re.sub(r"^( *)", r"\1* ", escape_markdown(line)) for line in comparison.verdict] + [""]
    lines += _markdown_table(head, table_rows(comparison, comparison.pairs))
    if comparison.observer:
        lines += ["", "Against the second observer:", ""]
        lines += _markdown_table(head, table_rows(comparison, comparison.observer))
    for other in comparison.secondary:
        lines += ["", f"Secondary metric, {other.metric.title}:", ""]
        lines += _markdown_table(table_head(other), table_rows(other, other.pairs))
    lines += ["", _caption(comparison)]
    every = (comparison, *comparison.secondary)
    notes = dict.fromkeys(note for one in every for note in one.notes)
    ended = [f"{escape_markdown(note)}{'' if note.endswith(('.', '?')) else '.'}" for note in notes]
    return "\n".join([*lines, *(f"\nNote: {note}" for note in ended)]) + "\n"


def format_latex(comparison: Comparison) -> str:
    """Format the table of pairs as LaTeX (booktabs)."""
    rows = [table_head(comparison), *table_rows(comparison, comparison.pairs)]
    text = [" & ".join(escape_latex(cell) for cell in row) + r" \\" for row in rows]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape_latex(_caption(comparison))}}}",
            r"\begin{tabular}{lllrrrrrrr}",
            r"\toprule",
            text[0],
            r"\midrule",
            *text[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def format_challenge(comparison: Comparison) -> str:
    """Format the scores as the table that challengeR reads.

    Columns: task (the label), case, algorithm, value. A missing result is NA, whatever ``missing`` says; what
    has no score in any method has no row. In R: ``as.challenge(read.csv("challengeR.csv"), by = "task",
    algorithm = "algorithm", case = "case", value = "value", smallBetter = FALSE, na.treat = 0)``.
    """
    table = comparison.table
    lines = ['"task","case","algorithm","value"']
    for k, label in enumerate(table.labels):
        for c, case in enumerate(table.cases):
            for m, method in enumerate(table.methods):
                value = float(table.observed[m, c, k])
                if math.isnan(value) and case not in table.missing[method]:
                    continue  # nothing to compare, in any method
                shown = "NA" if math.isnan(value) else repr(value)
                lines.append(",".join([*map(_quote, (label, case, method)), shown]))
    return "\n".join(lines) + "\n"


def _caption(comparison: Comparison) -> str:
    names = {pair.label for pair in comparison.pairs}
    overall = "Overall: mean of the labels' means over cases. " if OVERALL in names else ""
    missing = (
        "counted as the worst score" if comparison.options.missing == "worst" else "left out for all methods"
    )
    return (
        f"Paired comparison of {comparison.metric.title} ({comparison.metric.better} is better). {overall}"
        f"Difference: method - baseline with its {1 - comparison.options.alpha:.0%} bootstrap interval (BCa, "
        "extended to Student's t). p: permutation test, adjusted by Holm's procedure. Missing results are "
        f"{missing}."
    )


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    text = ["| " + " | ".join(escape_markdown(cell) for cell in row) + " |" for row in (head, *rows)]
    return [text[0], "|---|---|---|" + "---:|" * (len(head) - 3), *text[1:]]


def _pair_rows(comparison: Comparison) -> list[dict[str, Any]]:
    return [
        {"metric": comparison.metric.name, **_flat(pair)} for pair in (*comparison.pairs, *comparison.observer)
    ]


def _flat(pair: PairedResult) -> dict[str, Any]:
    """Return a comparison as one level of keys."""
    row = asdict(pair)
    extra = row.pop("noninferiority")
    row["margin"] = extra["margin"] if extra else math.nan
    row["noninferiority"] = extra["verdict"] if extra else ""
    row["p_noninferiority"] = extra["p"] if extra else math.nan
    return row


def _ranking_rows(comparison: Comparison) -> list[dict[str, Any]]:
    return [
        {
            "scheme": ranking.scheme, "label": ranking.label, "method": name, "rank": entry.rank,
            "score": entry.score, "rank_low": entry.low, "rank_high": entry.high,
            "share_first": entry.shares[0], "kendall_tau": ranking.kendall_tau,
        }
        for ranking in comparison.rankings
        for name, entry in ranking.methods.items()
    ]  # fmt: skip


def _subgroup_rows(comparison: Comparison) -> list[dict[str, Any]]:
    return [
        {"column": one.column, "group": group, **_flat(result),
         "p_interaction": one.p_interaction, "p_interaction_holm": one.p_interaction_holm}
        for one in comparison.subgroups
        for group, result in one.groups.items()
    ]  # fmt: skip


def _quote(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
