"""``medseg evaluate``: label maps against references."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medseg.errors import EXIT_OK, EXIT_SOME_FAILED, DataError

if TYPE_CHECKING:
    from medseg.evaluation import Evaluation
    from medseg.evaluation.options import MissingPolicy, OtherValues
    from medseg.metrics.surface import Surface

_MOST_LISTED = 20
_MEANINGS = {"ignore": "left out of every mean", "worst": "counted with the worst scores"}


@click.command()
@click.argument("predictions", type=click.Path(path_type=Path))
@click.argument("references", type=click.Path(path_type=Path))
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder of the tables.")
@click.option("--labels", help="NAME=VALUE[,…] or a medseg.json, where PREDICTIONS has none.")
@click.option("--label-suffix", help="What a reference's name adds to its prediction's, e.g. _mask.")
@click.option(
    "--missing", type=click.Choice(["error", "ignore", "worst"]), default="error", show_default=True,
    help="Cases without a prediction: stop and list them, leave them out, or count the worst scores.",
)  # fmt: skip
@click.option(
    "--others", type=click.Choice(["background", "ignore", "error"]),
    help="What values without a name are.  [default: as medseg.json says, else error]",
)  # fmt: skip
@click.option("--ignore", "ignore_value", type=int, metavar="VALUE", help="Value that counts nowhere.")
@click.option(
    "--tolerance", default=1.0, show_default=True, type=click.FloatRange(min=0),
    help="Of the surface Dice, mm; pixels for pictures without a spacing.",
)  # fmt: skip
@click.option(
    "--surface", type=click.Choice(["surfel", "voxel"]), default="surfel", show_default=True,
    help="Area-weighted surface elements, or border voxels.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on standard output.")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
def evaluate(
    predictions: Path,
    references: Path,
    output: Path,
    labels: str | None,
    label_suffix: str | None,
    missing: MissingPolicy,
    others: OtherValues | None,
    ignore_value: int | None,
    tolerance: float,
    surface: Surface,
    as_json: bool,
) -> int:
    """Compare label maps with references: a table of metrics per case, and their summary.

    PREDICTIONS and REFERENCES are two folders whose files go together by name, or two files. Exits with 4 if a
    case could not be compared, with 3 if none could.
    """
    from medseg.evaluation import EvaluationOptions, evaluate_cases, parse_labels

    options = EvaluationOptions(
        parse_labels(labels) if labels else None,
        label_suffix,
        missing,
        others,
        ignore_value,
        tolerance,
        surface,
    )
    evaluation = evaluate_cases(predictions, references, output, options)
    if as_json:
        click.echo((output / "summary.json").read_text(encoding="utf-8"))
    else:
        print_evaluation(evaluation)
        click.echo(f"tables: {output / 'cases.csv'}, {output / 'summary.json'}")
    for case, reason in evaluation.failed.items():
        click.echo(f"failed: {case}: {reason}", err=True)
    if not evaluation.summary["coverage"]["scored"]:
        click.echo("no prediction was compared: every score above is the worst one", err=True)
        return DataError.exit_code
    return EXIT_SOME_FAILED if evaluation.failed else EXIT_OK


def print_evaluation(evaluation: Evaluation) -> None:
    """Print a table of the labels, lines for the dataset, and what became of the cases."""
    from rich.console import Console
    from rich.table import Table

    summary = evaluation.summary
    unit = summary["definitions"]["unit"]
    heads = (
        "label",
        "cases",
        "Dice",
        "95% interval",
        "sd",
        "median",
        "IoU",
        f"HD95 {unit}",
        f"ASSD {unit}",
        "NSD",
    )
    table = Table(*heads, box=None)
    for name, entry in summary["labels"].items():
        metrics = entry["metrics"]
        dice = metrics["dice"]
        count = metrics["hd95"]["n_inf"]
        hd95 = _number(metrics["hd95"]["mean_finite"], 2) + (f" ({count} infinite)" if count else "")
        table.add_row(
            name, str(dice["n"]), _number(dice["mean"]), _interval(dice, 3), _number(dice["sd"]),
            _number(dice["median"]), _number(metrics["iou"]["mean"]), hd95,
            _number(metrics["assd"]["mean_finite"], 2), _number(metrics["nsd"]["mean"]),
        )  # fmt: skip
    console = Console(highlight=False, width=max(120, Console().width), markup=False)
    console.print(table)
    mean = summary["overall"]["mean_dice"]
    console.print(f"mean Dice {_number(mean['mean'], 4)}, 95% interval {_interval(mean, 4)}")
    if "dataset" in summary:
        scores = summary["dataset"]
        console.print(
            f"pixel accuracy {_number(scores['pixel_accuracy'], 4)}, "
            f"mIoU with background {_number(scores['miou_with_background'], 4)}"
        )
    for line in _coverage_lines(summary["coverage"]):
        click.echo(line)


def _coverage_lines(coverage: dict[str, Any]) -> list[str]:
    """How many references were scored, and which were not."""
    missing, failed = coverage["missing"], coverage["failed"]
    parts = [f"{coverage['scored']} of {coverage['references']} references scored"]
    parts += [f"{len(failed)} failed"] if failed else []
    meaning = _MEANINGS.get(coverage["missing_policy"], "")
    parts += [f"{len(missing)} without a prediction, {meaning}"] if missing else []
    count = coverage["not_requested"]
    parts += [f"{count} {'was' if count == 1 else 'were'} not asked for"] if count else []
    lines = ["; ".join(parts)]
    lines += [f"  missing: {case}: {reason}" for case, reason in list(missing.items())[:_MOST_LISTED]]
    if len(missing) > _MOST_LISTED:
        lines.append(f"  … and {len(missing) - _MOST_LISTED} more, all in summary.json")
    return lines


def _interval(entry: dict[str, Any], digits: int) -> str:
    return f"{_number(entry['ci_low'], digits)} to {_number(entry['ci_high'], digits)}"


def _number(value: Any, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if isinstance(value, float | int) else str(value)
