"""``medseg evaluate --interactive``: options, the call, and what is printed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medseg.cli.options import PATH, POSITIVE, SEED, all_options
from medseg.errors import EXIT_OK, EXIT_SOME_FAILED, ConfigError, ModelFileError, did_you_mean

if TYPE_CHECKING:
    from medseg.data.layouts import LayoutOptions
    from medseg.evaluation.interactive import InteractiveEvaluation, InteractiveOptions
    from medseg.evaluation.interactive.run_parts import Part
    from medseg.prompts import Promptable

_OPTION_NAMES = {"users": "user", "baselines": "baseline", "part": "cases"}

interactive_options: Callable[..., Any] = all_options(
    click.option(
        "--interactive", is_flag=True,
        help="Evaluate a model that answers prompts: PREDICTIONS is the MODEL (run folder, model file, name of "
        "a published model or a baseline), REFERENCES the DATA in any layout. Options of labels and of other "
        "metrics are refused.",
    ),
    click.option(
        "--user", "users", multiple=True, metavar="NAME",
        help="With --interactive, repeatable: clicks, random-clicks, hasty-clicks, box, slice-box, lines, "
        "zigzags, skeletons, contours, lasso, mixed, or human, who replays recorded scribbles.  [default: "
        "clicks, and human where there are scribbles]",
    ),
    click.option(
        "--baseline", "baselines", multiple=True, metavar="NAME",
        help="With --interactive, repeatable: also evaluate random-walker, geodesic-contour or chan-vese.",
    ),
    click.option(
        "--scribbles", type=PATH,
        help="With --interactive: folder of recorded scribbles, or of one subfolder for each person. Images "
        "have the names CASE or CASE_OBJECT and the values 1 on the object and 2 beside it.",
    ),
    click.option(
        "--cases", "part", type=click.Choice(["train", "val", "test", "all"]),
        help="With --interactive: cases of DATA in this part of the run MODEL, or all.  [default: all but its "
        "training and validation cases]",
    ),
    click.option(
        "--interactions", metavar="NUMBER[,…]",
        help="With --interactive: interactions after which the Dice is reported.  [default: 1,3,5,10]",
    ),
    click.option(
        "--components", is_flag=True,
        help="With --interactive: each connected component of a label is an object.  [default: each label; "
        "with --objects, each number]",
    ),
    click.option(
        "--most-objects", type=POSITIVE, help="With --interactive: most objects of each case.  [default: 10]"
    ),
    click.option("--seed", type=SEED, help="With --interactive: seed of the users' draws.  [default: 0]"),
)  # fmt: skip


@dataclass(frozen=True)
class GivenInteractive:
    """Values of the options, None or empty where they are not set."""

    users: tuple[str, ...]
    baselines: tuple[str, ...]
    scribbles: Path | None
    part: Part | None
    interactions: str | None
    components: bool
    most_objects: int | None
    seed: int | None

    @classmethod
    def take(cls, given: dict[str, Any]) -> GivenInteractive:
        """Take the options out of the values of the command."""
        return cls(**{name: given.pop(name) for name in cls.__dataclass_fields__})

    def check_absent(self) -> None:
        """Raise a `ConfigError` if an option is set although --interactive is not."""
        for name in self.__dataclass_fields__:
            if getattr(self, name) not in (None, (), False):
                option = _OPTION_NAMES.get(name, name.replace("_", "-"))
                raise ConfigError(
                    f"--{option}: only applies with --interactive",
                    hint="Add --interactive to evaluate a model that answers prompts.",
                )

    def options(self, objects: bool, jobs: int | None, *, pictures: bool) -> InteractiveOptions:
        """Return the options of the evaluation."""
        from medseg.evaluation.interactive import InteractiveOptions

        if objects and self.components:
            raise ConfigError("--objects and --components exclude each other", hint="Keep one of them.")
        values: dict[str, Any] = {"users": self.users, "jobs": jobs or 1}
        if not pictures:
            values["pictures"] = 0
        values["objects"] = "instances" if objects else "components" if self.components else "classes"
        if self.interactions is not None:
            values["counts"] = _parse_counts(self.interactions)
        values |= {
            name: value
            for name, value in (("most_objects", self.most_objects), ("seed", self.seed))
            if value is not None
        }
        return InteractiveOptions(**values)


def evaluate_prompts(
    model: Path,
    data: Path,
    given: GivenInteractive,
    options: InteractiveOptions,
    output: tuple[Path | None, bool],
    layout: LayoutOptions | None = None,
) -> InteractiveEvaluation:
    """Evaluate a model interactively and write the tables.

    Args:
        model: run folder, model file or name.
        data: the dataset.
        given: options of the command.
        options: options of the evaluation.
        output: folder for the tables, or None; and whether a report is written.
        layout: selects files of the dataset.
    """
    from medseg.evaluation.interactive import baseline_by_name, evaluate_interactive, find_interactive_cases
    from medseg.evaluation.interactive.output import INTERACTIVE_OUTPUT, write_interactive
    from medseg.evaluation.interactive.run_parts import choose_cases
    from medseg.progress import ConsoleProgress

    folder, report = output
    if folder is not None:
        INTERACTIVE_OUTPUT.check(folder, report=report)
    _check_model(model)
    baselines = [baseline_by_name(name) for name in given.baselines]
    with INTERACTIVE_OUTPUT.naming_earlier(folder), ConsoleProgress() as progress:
        found = find_interactive_cases(data, options, scribbles=given.scribbles, layout=layout)
        chosen = choose_cases(found, model, given.part)
        promptable = _load(model)
        evaluation = evaluate_interactive(
            promptable, chosen.cases, options, baselines=baselines, progress=progress
        )
    evaluation = replace(evaluation, selection=chosen.selection)
    if folder is not None:
        write_interactive(folder, evaluation, report=report)
    return evaluation


def print_interactive(evaluation: InteractiveEvaluation, output: Path | None, *, as_json: bool) -> int:
    """Print the table of scores, or the summary as JSON; return the exit code."""
    from medseg.metrics import to_json

    if as_json:
        click.echo(json.dumps(to_json(evaluation.summary), indent=2, ensure_ascii=False))
    else:
        _print_table(evaluation.summary)
        for one in evaluation.summary["differences"]:
            last, where = one["dice"]["last"], f", {one['group']}" if one["group"] else ""
            click.echo(
                f"{one['user']}{where}: {one['method']} - {one['baseline']}: mean Dice {last['mean']:+.3f}, "
                f"95% interval {last['ci_low']:+.3f} to {last['ci_high']:+.3f}"
            )
        click.echo(f"cases: {evaluation.selection}")
        if output is not None:
            click.echo(f"tables and report: {output}")
    for case, reason in evaluation.failed.items():
        click.echo(f"failed: {case}: {reason}", err=True)
    errors = {row["error"]: row for row in reversed(evaluation.rows) if row["error"]}
    for reason, row in errors.items():
        count = sum(other["error"] == reason for other in evaluation.rows)
        more = f" (and {count - 1} more)" if count > 1 else ""
        click.echo(f"{row['method']} failed on {row['case']}, {row['object']}{more}: {reason}", err=True)
    return EXIT_SOME_FAILED if evaluation.failed or errors else EXIT_OK


def _check_model(model: Path) -> None:
    """Check that a model is there, before the dataset is read.

    Raises:
        ModelFileError: it is neither a file or folder nor a known name.
    """
    from medseg.evaluation.interactive import BASELINES
    from medseg.sam.published import PUBLISHED_SAM

    known = (*BASELINES, *PUBLISHED_SAM)
    if not model.exists() and str(model) not in known:
        raise ModelFileError(
            f"{model}: no such model; expected a run folder, a model file, a baseline ({', '.join(BASELINES)}) "
            f"or the name of a SAM ({', '.join(PUBLISHED_SAM)})",
            hint=did_you_mean(str(model), known) or "Train one with medseg train DATA task.name=prompts.",
            path=model,
        )


def _load(model: Path) -> Promptable:
    from medseg.evaluation.interactive import BASELINES

    if str(model) in BASELINES:
        return BASELINES[str(model)]
    from medseg.interop.promptable import load_promptable

    return load_promptable(model)


def _print_table(summary: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from medseg.evaluation.interactive.output import score_cells

    head, lines = score_cells(summary)
    table = Table(*head, box=None)
    for line in lines:
        table.add_row(*line)
    Console(highlight=False, width=400, markup=False).print(table)


def _parse_counts(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError as error:
        raise ConfigError(
            f"--interactions {text!r}: expected whole numbers", hint="For example 1,3,5,10."
        ) from error
