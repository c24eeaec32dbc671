"""``medseg evaluate``: compare label maps with references."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medseg.cli.evaluated_kind import check_evaluated_kind
from medseg.cli.evaluation_table import print_evaluation
from medseg.cli.interactive_evaluation import (
    GivenInteractive,
    evaluate_prompts,
    interactive_options,
    print_interactive,
)
from medseg.cli.options import (
    OUTPUT,
    PATH,
    POSITIVE,
    FiniteRange,
    all_options,
    debug_option,
    json_option,
    label_suffix_option,
)
from medseg.errors import EXIT_OK, EXIT_SOME_FAILED, ConfigError, DataError

if TYPE_CHECKING:
    from medseg.evaluation import Evaluation
    from medseg.evaluation.options import EvaluationOptions, ExtraPolicy, MissingPolicy, OtherValues
    from medseg.metrics import Like, MissPolicy, Surface
    from medseg.metrics.lesions.detection import BratsChallenge

_label_options = all_options(
    click.option(
        "--labels",
        help="Names of the labels: NAME=VALUE[,…], or a medseg.json.  [default: medseg.json in PREDICTIONS]",
    ),
    label_suffix_option,
    click.option("--prediction-suffix", help="Suffix that names of predictions add, for example _2ndHO."),
    click.option(
        "--others", type=click.Choice(["background", "ignore", "error"]),
        help="Meaning of label values without a name.  [default: as in medseg.json, else error]",
    ),
    click.option(
        "--ignore", "ignore_value", type=int, metavar="VALUE", help="Reference value of voxels to leave out."
    ),
)  # fmt: skip
_score_options = all_options(
    click.option(
        "--missing", type=click.Choice(["error", "ignore", "worst"]), default="error", show_default=True,
        help="Cases without a prediction. error: stop and list them; ignore: leave them out of the means; "
        "worst: count them with the worst scores.",
    ),
    click.option(
        "--extra", type=click.Choice(["error", "ignore"]), default="error", show_default=True,
        help="Predictions without a reference. error: stop and list them; ignore: leave them "
        "out and list them.",
    ),
    click.option(
        "--misses", type=click.Choice(["worst", "exclude"]), default="worst", show_default=True,
        help="Structures that only one of both files contains, in mean distances. worst: the image's "
        "diagonal; exclude: leave them out and count them. Their Dice is 0 in both.",
    ),
    click.option(
        "--tolerance", default="1", show_default=True, metavar="NUMBER|NAME=NUMBER[,…]",
        help="Tolerance of the surface Dice in mm, or in pixels for pictures without spacing; one, or one per "
        "label (1 for labels that are not named).",
    ),
    click.option(
        "--metrics", default="overlap,boundary", show_default=True, metavar="GROUP[,…]",
        help="Groups of metrics: overlap (always), boundary, topology, lesions, calibration.",
    ),
    click.option(
        "--percentiles", default="95", show_default=True, metavar="NUMBER[,…]",
        help="Percentiles of the Hausdorff distance.",
    ),
    click.option(
        "--like", type=click.Choice(["monai", "deepmind", "medpy", "nnunet"]),
        help="Library whose conventions the scores follow.  [default: medseg's own]",
    ),
    click.option(
        "--lesion-iou", type=FiniteRange(0, 1, min_open=True), default=0.1, show_default=True,
        help="Smallest IoU of a reference lesion and the predicted one that matches it. This and the next two "
        "options add the metrics of lesions.",
    ),
    click.option(
        "--lesion-sizes", metavar="NUMBER[,…]",
        help="Volumes in mm³ (areas in mm²) between the size strata of lesions, such as 100,1000.",
    ),
    click.option(
        "--brats", type=click.Choice(["GLI", "SSA", "MEN", "PED", "MET"]),
        help="Add the lesion-wise scores of this challenge of BraTS 2023.",
    ),
    click.option(
        "--surface", type=click.Choice(["surfel", "voxel"]), default="surfel", show_default=True,
        help="Surface elements of the distances. surfel: weighted by area; voxel: border voxels.",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class _Given:
    """Options of the command that define the scores."""

    labels: str | None
    label_suffix: str | None
    prediction_suffix: str | None
    others: OtherValues | None
    ignore_value: int | None
    missing: MissingPolicy
    extra: ExtraPolicy
    misses: MissPolicy
    tolerance: str
    metrics: str
    percentiles: str
    like: Like | None
    lesion_iou: float
    lesion_sizes: str | None
    brats: BratsChallenge | None
    surface: Surface

    def options(self, jobs: int | None, images: Path | None) -> EvaluationOptions:
        from medseg.evaluation import EvaluationOptions, parse_labels, parse_numbers, parse_tolerance
        from medseg.metrics import LesionOptions

        sizes = parse_numbers("--lesion-sizes", self.lesion_sizes) if self.lesion_sizes else ()
        groups: Any = tuple(name.strip() for name in self.metrics.split(","))
        if "lesions" not in groups and (self.brats or sizes or self.lesion_iou != LesionOptions().min_iou):
            groups = (*groups, "lesions")
        try:
            lesions = LesionOptions(self.lesion_iou, sizes, self.brats)
        except ValueError as error:
            raise ConfigError(f"--lesion-iou or --lesion-sizes: {error}") from error
        return EvaluationOptions(
            labels=parse_labels(self.labels) if self.labels else None,
            label_suffix=self.label_suffix,
            prediction_suffix=self.prediction_suffix,
            missing=self.missing,
            extra=self.extra,
            misses=self.misses,
            others=self.others,
            ignore_value=self.ignore_value,
            tolerance=parse_tolerance(self.tolerance),
            metrics=groups,
            percentiles=parse_numbers("--percentiles", self.percentiles),
            surface=self.surface,
            like=self.like,
            lesions=lesions,
            jobs=jobs,
            images=images,
        )


@click.command()
@click.argument("predictions", type=PATH)
@click.argument("references", type=PATH)
@click.option("--output", type=OUTPUT, help="Folder for the tables.  [default: print only]")
@_label_options
@_score_options
@click.option(
    "--objects", is_flag=True,
    help="Compare numbered objects (instances): the values of the label maps are numbers of objects. "
    "REFERENCES may also be a dataset (COCO, GeoJSON …), whose classes are then compared. --ignore, "
    "--missing, --extra, the suffixes and --jobs apply; other options of labels and metrics are refused.",
)  # fmt: skip
@click.option(
    "--panoptic", is_flag=True,
    help="Compare panoptic segmentations: PREDICTIONS and REFERENCES are JSON files in COCO's panoptic format, "
    "such as the panoptic.json of medseg panoptic. Of the other options, --output, --missing, --extra, "
    "--no-report and --json apply.",
)  # fmt: skip
@interactive_options
@click.option("--images", type=PATH, help="Folder of the images, which the report shows below the label maps.")
@click.option("--report/--no-report", default=True, help="Write report.html to --output.  [default: --report]")
@click.option("--jobs", type=POSITIVE, help="Most cases compared at a time.  [default: number of cores]")
@json_option
@debug_option
def evaluate(
    predictions: Path,
    references: Path,
    output: Path | None,
    objects: bool,
    interactive: bool,
    panoptic: bool,
    images: Path | None,
    report: bool,
    jobs: int | None,
    as_json: bool,
    **given: Any,
) -> int:
    """Compare label maps with references; print metrics and write them per case and as a summary.

    PREDICTIONS and REFERENCES are two folders whose files are matched by name, or two files. With --interactive
    they are a model that answers prompts and a dataset. Exits with 4 if a case could not be compared, with 3 if
    none could.
    """
    prompting = GivenInteractive.take(given)
    check_evaluated_kind(click.get_current_context())
    if interactive:
        from medseg.data.layouts import LayoutOptions

        options = prompting.options(objects, jobs, pictures=report and output is not None)
        layout = LayoutOptions(label_suffix=given["label_suffix"])
        prompted = evaluate_prompts(predictions, references, prompting, options, (output, report), layout)
        return print_interactive(prompted, output, as_json=as_json)
    prompting.check_absent()
    if panoptic:
        files = predictions, references
        policies = given["missing"], given["extra"]
        return _evaluate_panoptic(files, output, policies, report=report, as_json=as_json)
    if objects:
        run = (jobs, images)
        return _evaluate_objects(
            (predictions, references), output, _Given(**given), run, report=report, as_json=as_json
        )
    evaluation = _evaluate_label_maps((predictions, references), output, given, (jobs, images), report=report)
    if as_json:
        from medseg.metrics import to_json

        click.echo(json.dumps(to_json(evaluation.summary), indent=2, ensure_ascii=False))
    else:
        print_evaluation(evaluation)
        if output is not None:
            click.echo(f"tables: {output / 'cases.csv'}, {output / 'summary.json'}, {output / 'table.md'}")
        if output is not None and report:
            click.echo(f"report: {output / 'report.html'}")
    for case, reason in evaluation.failed.items():
        click.echo(f"failed: {case}: {reason}", err=True)
    if not evaluation.summary["coverage"]["scored"]:
        click.echo("no prediction was compared: all scores above are the worst possible", err=True)
        return DataError.exit_code
    return EXIT_SOME_FAILED if evaluation.failed else EXIT_OK


def _evaluate_label_maps(
    folders: tuple[Path, Path], output: Path | None, given: dict[str, Any],
    run: tuple[int | None, Path | None], *, report: bool,
) -> Evaluation:  # fmt: skip
    """Compare label maps and write the tables; ``run`` holds the number of jobs and the folder of images."""
    from medseg.evaluation import evaluate_cases
    from medseg.evaluation.output import REPORT_FILE, TABLES, write_evaluation_report
    from medseg.progress import ConsoleProgress

    if output is not None:
        TABLES.check(output, report=report)
    with ConsoleProgress() as progress:
        options = _Given(**given).options(*run)
        evaluation = evaluate_cases(*folders, output, options, progress=progress)
    if output is not None and report:
        write_evaluation_report(output / REPORT_FILE, evaluation)
    return evaluation


def _evaluate_objects(
    folders: tuple[Path, Path], output: Path | None, given: _Given, run: tuple[int | None, Path | None],
    *, report: bool, as_json: bool,
) -> int:  # fmt: skip
    """Compare numbered objects and print their scores; ``run``: number of jobs, and folder of images."""
    from medseg.evaluation.objects import (
        OBJECTS_OUTPUT,
        OBJECTS_SUMMARY,
        OBJECTS_TABLE,
        evaluate_objects,
        write_objects_report,
    )
    from medseg.evaluation.output import REPORT_FILE
    from medseg.evaluation.pairing import Suffixes, check_exists
    from medseg.progress import ConsoleProgress

    jobs, images = run
    if output is not None:
        OBJECTS_OUTPUT.check(output, report=report)
    if images is not None:
        check_exists(images)
    with ConsoleProgress() as progress:
        found = evaluate_objects(
            *folders, output, suffixes=Suffixes(given.label_suffix, given.prediction_suffix),
            ignore_value=given.ignore_value, missing=given.missing, extra=given.extra, jobs=jobs,
            progress=progress,
        )  # fmt: skip
    if output is not None and report:
        write_objects_report(output / REPORT_FILE, found, images)
    click.echo(json.dumps(found.summary, indent=2, ensure_ascii=False) if as_json else found.table())
    if output is not None and not as_json:
        click.echo(f"tables: {output / OBJECTS_TABLE}, {output / OBJECTS_SUMMARY}")
        if report:
            click.echo(f"report: {output / REPORT_FILE}")
    for case, reason in found.failed.items():
        click.echo(f"failed: {case}: {reason}", err=True)
    return EXIT_SOME_FAILED if found.failed else EXIT_OK


def _evaluate_panoptic(
    files: tuple[Path, Path], output: Path | None, policies: tuple[MissingPolicy, ExtraPolicy],
    *, report: bool, as_json: bool,
) -> int:  # fmt: skip
    """Compare panoptic segmentations and print their scores."""
    from medseg.evaluation.objects import (
        PANOPTIC_OUTPUT,
        PANOPTIC_SUMMARY,
        PANOPTIC_TABLE,
        evaluate_panoptic,
        write_panoptic_report,
    )
    from medseg.evaluation.output import REPORT_FILE

    if output is not None:
        PANOPTIC_OUTPUT.check(output, report=report)
    missing, extra = policies
    found = evaluate_panoptic(*files, output, missing=missing, extra=extra)
    if output is not None and report:
        write_panoptic_report(output / REPORT_FILE, found)
    click.echo(json.dumps(found.summary, indent=2, ensure_ascii=False) if as_json else found.table())
    if output is not None and not as_json:
        click.echo(f"scores: {output / PANOPTIC_TABLE}, {output / PANOPTIC_SUMMARY}")
        if report:
            click.echo(f"report: {output / REPORT_FILE}")
    return EXIT_OK
