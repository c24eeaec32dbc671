"""From what a user and a layout say of the labels to the rules by which files are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from medseg.data.cases import Case, join_problems
from medseg.data.codes import SegmentCode
from medseg.data.labels import Colour, Labels, overlapping_labels
from medseg.data.targets import TargetRules
from medseg.errors import ConfigError, DataError

Missing = Literal["refuse", "empty", "unknown"]


@dataclass(frozen=True)
class Labelling:
    """How the label files of a dataset are read.

    Attributes:
        rules: from files to values.
        labels: names of the values; none if they are to be guessed from the values found.
        cases: with ``labelled`` set where a case lacks a label's file and this is to mean "unknown".
    """

    rules: TargetRules
    labels: Labels | None
    cases: list[Case]


@dataclass(frozen=True)
class LabelStatement:
    """What a user says of the labels; see ``DataConfig`` for the meaning of each."""

    labels: Labels | None = None
    colours: dict[str, Colour] | None = None
    overlapping: bool = False
    soft: bool = False
    missing: Missing = "refuse"
    codes: Mapping[str, SegmentCode] = field(default_factory=dict)


def plan_labelling(cases: list[Case], stated: LabelStatement, declared: Labels | None = None) -> Labelling:
    """Decide how label files are read; ``declared`` are the labels that the layout names.

    Labels are drawn in the colours stated, else in those declared.
    Raises: ConfigError if the statements contradict each other; DataError if cases lack files of labels.
    """
    labels = stated.labels or declared
    plan = _plan(cases, stated, labels)
    colours = (labels.colours if labels else {}) | (stated.colours or {})
    if plan.labels and colours:
        plan = replace(plan, labels=plan.labels.drawn_in(colours))
    return replace(plan, labels=plan.labels.coded_as(stated.codes)) if plan.labels and stated.codes else plan


def _plan(cases: list[Case], stated: LabelStatement, labels: Labels | None) -> Labelling:
    masks = sorted({name for case in cases for name in case.masks})
    if stated.overlapping:
        names = tuple(list(labels.names)[1:]) if labels else tuple(n for n in masks if n != "background")
        if not names:
            raise ConfigError("data.overlapping: name the labels that may overlap under data.labels")
        rules = TargetRules(values={name: 1 << i for i, name in enumerate(names)}, overlapping=True)
        return Labelling(rules, overlapping_labels(names), _complete(cases, list(names), stated.missing))
    if stated.soft:
        names = list(labels.names) if labels else ["background", *(n for n in masks if n != "background")]
        if len(names) < 2:
            raise ConfigError("data.soft: name the channels of the probability maps under data.labels")
        table = {name: i for i, name in enumerate(names)}
        soft = Labels(names={name: (value,) for name, value in table.items()})
        return Labelling(TargetRules(values=table, soft=True), soft, cases)
    if stated.colours:
        return _coloured(cases, stated.colours, labels)
    if masks:
        return _masked(cases, masks, labels, stated.missing)
    return Labelling(TargetRules(), labels, cases)


def _coloured(cases: list[Case], colours: dict[str, Colour], labels: Labels | None) -> Labelling:
    labels = labels or Labels(names={name: (value,) for value, name in enumerate(colours)})
    ignored = {"ignore": labels.ignore_value} if labels.ignore_value is not None else {}
    values = {name: group[0] for name, group in labels.names.items()} | ignored
    unknown = [name for name in colours if name not in values]
    if unknown:
        raise ConfigError(
            f"data.colours names {unknown}, which data.labels does not; known: {list(values)}. Add them to "
            "data.labels; a colour named ignore needs data.ignore_value."
        )
    shared = [name for name, colour in colours.items() if list(colours.values()).count(colour) > 1]
    if shared:
        raise ConfigError(f"data.colours: labels share a colour, by which they are told apart: {shared}")
    return Labelling(TargetRules(values=values, colours=colours), labels, cases)


def _masked(cases: list[Case], masks: list[str], labels: Labels | None, missing: Missing) -> Labelling:
    if labels is None:
        others = [name for name in masks if name != "background"]
        labels = Labels(names={"background": (0,)} | {name: (i,) for i, name in enumerate(others, start=1)})
    wanted = {name: group[0] for name, group in labels.names.items()}
    foreign = [name for name in masks if name not in wanted and name != "background"]
    if foreign and labels.others == "refuse":
        raise DataError(
            f"label files nobody named: {', '.join(foreign)}. Known: {', '.join(wanted)}. Name them under "
            "data.labels, or set data.others=background to leave them out."
        )
    values = {name: value for name, value in wanted.items() if name != next(iter(wanted))}
    named = [name for name in values if name in masks]
    return Labelling(TargetRules(values=values), labels, _complete(cases, named, missing))


def _complete(cases: list[Case], names: list[str], missing: Missing) -> list[Case]:
    """Cases of masks, where those that lack a file are refused, or say which labels they have."""
    lacking = {c.id: [n for n in names if n not in c.masks] for c in cases if c.masks and c.part != "test"}
    lacking = {case: found for case, found in lacking.items() if found}
    if missing == "refuse" and lacking:
        lines = [f"case {case}: no file of {', '.join(found)}" for case, found in lacking.items()]
        way_out = "set data.missing=empty if the structure is not there, data.missing=unknown if nobody drew it"
        raise DataError(join_problems(f"label files are missing ({way_out})", lines))
    if missing == "unknown":
        return [replace(c, labelled=tuple(c.masks)) if c.id in lacking else c for c in cases]
    return cases
