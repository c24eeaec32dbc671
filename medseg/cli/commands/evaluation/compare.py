"""``medseg compare``: which method is better, on what, by how much, and how sure that is."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medseg.cli.options import OUTPUT, PATH, FiniteRange, debug_option, json_option, label_suffix_option
from medseg.errors import EXIT_OK

if TYPE_CHECKING:
    from rich.table import Table

    from medseg.evaluation.comparison import Comparison, PairedResult

_POSITIVE = FiniteRange(min=0, min_open=True)


@click.command()
@click.argument("methods", nargs=-1, required=True)
@click.option("--reference", type=PATH, help="Folder of reference label maps, for folders of predictions.")
@click.option("--images", type=PATH, help="Folder of the images, which the report shows below the label maps.")
@click.option("--output", type=OUTPUT, help="Folder for the tables, and for predictions of runs.")
@click.option(
    "--metric", default="dice", show_default=True, help="Column of the scores, such as dice, nsd or hd95."
)
@click.option(
    "--also", multiple=True, metavar="METRIC",
    help="Further metric, without adjustment of the tests; may be given several times.",
)  # fmt: skip
@click.option(
    "--better",
    type=click.Choice(["higher", "lower"]),
    help="Better values of a metric that medseg does not know.",
)
@click.option(
    "--missing", type=click.Choice(["worst", "exclude"]), default="worst", show_default=True,
    help="Cases without a result in one method. worst: count as the worst score; exclude: leave them out for "
    "every method.",
)  # fmt: skip
@click.option("--baseline", help="Method that the others are compared with.  [default: compare all pairs]")
@click.option(
    "--groups", type=PATH, help="CSV table: a column case, and columns of groups such as site or sex."
)
@click.option("--observer", type=PATH, help="A second observer's label maps, or table: the ceiling.")
@click.option("--observer-suffix", help="Suffix of the observer's file names, for example _2ndHO.")
@click.option("--margin", type=_POSITIVE, help="Loss of the mean up to which a method is not inferior.")
@click.option("--detect", type=_POSITIVE, help="Difference of the mean: print how many cases it needs.")
@click.option(
    "--penalty", type=_POSITIVE, help="Value of an infinite distance.  [default: the image's diagonal]"
)
@click.option(
    "--cases", "part", type=click.Choice(["test", "val"]), default="test", show_default=True,
    help="Part of the split of runs whose cases are compared.",
)  # fmt: skip
@click.option("--labels", help="Names of the labels of predictions: NAME=VALUE[,…], or a medseg.json.")
@label_suffix_option
@json_option
@debug_option
def compare(
    methods: tuple[str, ...],
    reference: Path | None,
    images: Path | None,
    output: Path | None,
    groups: Path | None,
    observer: Path | None,
    observer_suffix: str | None,
    labels: str | None,
    label_suffix: str | None,
    as_json: bool,
    **compared: Any,
) -> int:
    """Compare methods on the same cases: which is better, on what, by how much, how sure.

    METHODS are two or more run folders, folders of predictions (with --reference), folders that medseg evaluate
    wrote, or tables with one row per case and label; NAME=PATH names one.

    The answer comes in words, then in tables: paired differences with intervals, permutation and signed-rank
    tests adjusted for their number, and rankings. With --output, tables are written as CSV, JSON, Markdown,
    LaTeX and for challengeR, and report.html shows them with plots.
    """
    from medseg.evaluation import EvaluationOptions, parse_labels
    from medseg.evaluation.comparison import ComparisonOptions, write_comparison_report
    from medseg.evaluation.output import REPORT_FILE
    from medseg.report.page import check_page
    from medseg.report.pages.comparison.page import COMPARISON_PAGE
    from medseg.study.methods import ComparisonInputs, compare_runs

    evaluation = EvaluationOptions(
        labels=parse_labels(labels) if labels else None, label_suffix=label_suffix, missing="ignore"
    )
    options = ComparisonOptions(**compared, evaluation=evaluation)
    if output is not None:
        check_page(output / REPORT_FILE, COMPARISON_PAGE, hint="Choose another --output, or move the file.")
    inputs = ComparisonInputs(reference, observer, observer_suffix, groups, images)
    comparison = compare_runs(methods, output, options, inputs)
    if output is not None:
        write_comparison_report(output / REPORT_FILE, comparison)
    if as_json:
        click.echo(json.dumps(comparison.to_json(), indent=2, ensure_ascii=False))
        return EXIT_OK
    print_comparison(comparison)
    if output is not None:
        click.echo(f"tables: {output}\nreport: {output / REPORT_FILE}")
    return EXIT_OK


def print_comparison(comparison: Comparison) -> None:
    """Print the result in words, then a table of pairs, and the rankings of three or more methods."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    for line in comparison.verdict:
        indent = " " * (len(line) - len(line.lstrip()))
        click.echo(textwrap.fill(line, console.width, subsequent_indent=f"{indent}  ", break_on_hyphens=False))
    wide = Console(highlight=False, width=max(130, console.width), markup=False)
    tables = [_pair_table(comparison, comparison.pairs, None)]
    if comparison.observer:
        tables.append(_pair_table(comparison, comparison.observer, "against the second observer"))
    tables += [
        _pair_table(one, one.pairs, f"secondary metric: {one.metric.title}") for one in comparison.secondary
    ]
    if len(comparison.methods) > 2:
        tables.append(_ranking_table(comparison))
    for table in tables:
        console.print()
        wide.print(table)
    notes = [*comparison.notes, *(note for one in comparison.secondary for note in one.notes)]
    for note in dict.fromkeys(notes):
        click.echo(f"note: {note}")


def _pair_table(comparison: Comparison, pairs: Sequence[PairedResult], title: str | None) -> Table:
    from rich.table import Table

    from medseg.evaluation.comparison.export import table_head, table_rows

    table = Table(*table_head(comparison), box=None, title=title, title_justify="left")
    for row in table_rows(comparison, pairs):
        table.add_row(*row)
    return table


def _ranking_table(comparison: Comparison) -> Table:
    """Return a table of the ranks of each method by each scheme, with their intervals over resamples."""
    from rich.table import Table

    own = [one for one in comparison.rankings if one.label == comparison.rankings[0].label]
    table = Table("rank (95% interval)", *(one.scheme for one in own), box=None)
    for name in own[0].methods:
        entries = [one.methods[name] for one in own]
        table.add_row(name, *(f"{e.rank:g} ({e.low:g} to {e.high:g})" for e in entries))
    return table
