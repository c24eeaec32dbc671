"""``medseg evaluate``: compare label maps with references."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medseg.cli.options import PATH, debug_option, json_option, label_suffix_option
from medseg.errors import EXIT_OK, EXIT_SOME_FAILED, DataError

if TYPE_CHECKING:
    from medseg.evaluation import Evaluation
    from medseg.evaluation.options import MissingPolicy, OtherValues
    from medseg.metrics.surface import Surface

_MOST_LISTED = 20
_POLICIES = {"ignore": "left out of the means", "worst": "counted with the worst scores"}


@click.command()
@click.argument("predictions", type=PATH)
@click.argument("references", type=PATH)
@click.option("--output", required=True, type=PATH, help="Folder for the tables.")
@click.option(
    "--labels",
    help="Names of the labels: NAME=VALUE[,…], or a medseg.json.  [default: medseg.json in PREDICTIONS]",
)
@label_suffix_option
@click.option(
    "--missing", type=click.Choice(["error", "ignore", "worst"]), default="error", show_default=True,
    help="Cases without a prediction. error: stop and list them; ignore: leave them out of the means; "
    "worst: count them with the worst scores.",
)  # fmt: skip
@click.option(
    "--others", type=click.Choice(["background", "ignore", "error"]),
    help="Meaning of label values without a name.  [default: as in medseg.json, else error]",
)  # fmt: skip
@click.option(
    "--ignore", "ignore_value", type=int, metavar="VALUE", help="Reference value of voxels to leave out."
)
@click.option(
    "--tolerance", default=1.0, show_default=True, type=click.FloatRange(min=0),
    help="Tolerance of the surface Dice in mm, or in pixels for pictures without spacing.",
)  # fmt: skip
@click.option(
    "--surface", type=click.Choice(["surfel", "voxel"]), default="surfel", show_default=True,
    help="Surface elements of the distances. surfel: weighted by area; voxel: border voxels.",
)  # fmt: skip
@json_option
@debug_option
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
    """Compare label maps with references; write metrics per case and a summary.

    PREDICTIONS and REFERENCES are two folders whose files are matched by name, or two files. Exits with 4 if a
    case could not be compared, with 3 if none could.
    """
    from medseg.evaluation import EvaluationOptions, evaluate_cases, parse_labels

    options = EvaluationOptions(
        labels=parse_labels(labels) if labels else None,
        label_suffix=label_suffix,
        missing=missing,
        others=others,
        ignore_value=ignore_value,
        tolerance=tolerance,
        surface=surface,
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
        click.echo("no prediction was compared: all scores above are the worst possible", err=True)
        return DataError.exit_code
    return EXIT_SOME_FAILED if evaluation.failed else EXIT_OK


def print_evaluation(evaluation: Evaluation) -> None:
    """Print a table with one row per label, the scores of the dataset, and which cases were scored."""
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
    """Describe how many references were scored, and which were not."""
    missing, failed = coverage["missing"], coverage["failed"]
    parts = [f"{coverage['scored']} of {coverage['references']} references scored"]
    parts += [f"{len(failed)} failed"] if failed else []
    policy = _POLICIES.get(coverage["missing_policy"], "")
    parts += [f"{len(missing)} without a prediction, {policy}"] if missing else []
    count = coverage["not_requested"]
    parts += [f"{count} {'was' if count == 1 else 'were'} not requested"] if count else []
    lines = ["; ".join(parts)]
    lines += [f"  missing: {case}: {reason}" for case, reason in list(missing.items())[:_MOST_LISTED]]
    if len(missing) > _MOST_LISTED:
        lines.append(f"  … and {len(missing) - _MOST_LISTED} more, all in summary.json")
    return lines


def _interval(entry: dict[str, Any], digits: int) -> str:
    return f"{_number(entry['ci_low'], digits)} to {_number(entry['ci_high'], digits)}"


def _number(value: Any, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if isinstance(value, float | int) else str(value)
