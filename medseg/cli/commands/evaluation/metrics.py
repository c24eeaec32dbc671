"""``medseg metrics``: choose metrics."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medseg.cli.options import PATH, Command, all_options, debug_option, json_option

if TYPE_CHECKING:
    from medseg.metrics.recommendation import Advice, Answers

_CHOICES = {
    "task": ("semantic", "instance"),
    "focus": ("overlap", "boundary", "volume", "centerline"),
    "worse": ("missed", "false", "equal"),
}
_FLAGS = {
    "small": "Structures of few voxels.",
    "varying": "Sizes that differ much.",
    "tubular": "Thin, branching structures.",
    "imbalanced": "Classes that differ much in size.",
    "several": "Several separate objects in a case.",
    "touching": "Objects that touch or overlap.",
    "absent": "Cases without the structure.",
    "imprecise": "A reference that is imprecise at the boundary.",
    "probabilities": "Probabilities are used, not only label maps.",
}


@click.group("metrics")
def metrics_group() -> None:
    """Choose metrics."""


def _answers(command: Command) -> Command:
    """Add one option per question."""
    choices = [
        click.option("--task", type=click.Choice(_CHOICES["task"]), help="Voxels of classes, or objects."),
        click.option("--focus", type=click.Choice(_CHOICES["focus"]), help="What matters most."),
        click.option("--worse", type=click.Choice(_CHOICES["worse"]), help="The worse error."),
    ]
    flags = [click.option(f"--{name}/--no-{name}", default=None, help=text) for name, text in _FLAGS.items()]
    return all_options(*choices, *flags)(command)


@metrics_group.command("recommend")
@click.argument("data", type=PATH, required=False)
@click.argument("overrides", nargs=-1)
@_answers
@click.option("--ask/--no-ask", default=None, help="Ask the open questions.  [default: in a terminal]")
@json_option
@debug_option
def recommend(
    data: Path | None, overrides: tuple[str, ...], ask: bool | None, as_json: bool, **given: Any
) -> None:
    """Recommend metrics for a question, with reasons, by the rules of Metrics Reloaded.

    The options answer the questions. DATA, a folder of cases or a configuration file, answers those that its
    labels can answer. OVERRIDES are settings such as data.label_suffix=_seg or data.instances=keep. Open
    questions are asked in a terminal; elsewhere the usual or the cautious answer is assumed.
    """
    from medseg.metrics.recommendation import QUESTIONS, Answers, recommend_metrics

    answers, reasons = (Answers(), dict[str, str]()) if data is None else _measured(data, overrides)
    chosen = {name: value for name, value in given.items() if value is not None}
    answers = replace(answers, **chosen)
    reasons = {name: text for name, text in reasons.items() if name not in chosen}
    if ask or (ask is None and not as_json and sys.stdin.isatty()):
        answers = _ask(answers, QUESTIONS)
    advice = recommend_metrics(answers)
    if as_json:
        click.echo(json.dumps(asdict(advice) | {"measured": reasons}, indent=2))
    else:
        _print(advice, answers, reasons)


def _measured(data: Path, overrides: tuple[str, ...]) -> tuple[Answers, dict[str, str]]:
    """Answer questions from the fingerprint of a dataset."""
    from medseg.config.schema import load_config
    from medseg.files import check_exists
    from medseg.metrics.recommendation import StructureFacts, answers_from_data
    from medseg.planning.fingerprint import measure_fingerprint
    from medseg.training.dataset.preparation import find_labeled_cases, measure_cases

    check_exists(data)
    settings = load_config(data if data.is_file() else {"data": {"path": str(data)}}, overrides).data
    _, labels = find_labeled_cases(settings)
    fingerprint = measure_fingerprint(measure_cases(labels, settings.cache), labels)
    shared = set(StructureFacts.__dataclass_fields__)
    facts = [StructureFacts(**one.model_dump(include=shared)) for one in fingerprint.classes]
    answers, reasons = answers_from_data(facts)
    if fingerprint.separated:
        answers = replace(answers, task="instance")
        reasons["task"] = "the label files number objects"
    return answers, reasons


def _ask(answers: Answers, questions: dict[str, str]) -> Answers:
    """Ask the questions that are not answered."""
    for name, text in questions.items():
        if getattr(answers, name) is not None:
            continue
        if name in _CHOICES:
            choice = click.Choice(_CHOICES[name])
            answers = replace(answers, **{name: click.prompt(text, type=choice, default=_CHOICES[name][0])})
        else:
            answers = replace(answers, **{name: click.confirm(text, default=False)})
    return answers


def _print(advice: Advice, answers: Answers, reasons: dict[str, str]) -> None:
    for name, value in asdict(advice.answers).items():
        source = reasons.get(name, "given" if getattr(answers, name) is not None else "assumed")
        click.echo(f"{name:14}{_word(value):12}{source}")
    click.echo("\nrecommended:")
    for metric in advice.metrics:
        click.echo(f"  {', '.join(metric.columns)}: {metric.why}")
    click.echo("\nnote:")
    for warning in advice.warnings:
        click.echo(f"  - {warning}")


def _word(value: bool | str) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
