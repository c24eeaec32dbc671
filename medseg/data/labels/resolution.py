"""From what a user and a layout say of the labels to the rules by which files are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from medseg.data.cases import Case, join_problems
from medseg.data.labels.name_files import read_label_names
from medseg.data.labels.reader import LabelReader
from medseg.data.labels.schema import Color, LabelSchema, guess_labels, overlapping_labels
from medseg.errors import ConfigError, DataError

Missing = Literal["refuse", "empty", "unknown"]


@dataclass(frozen=True)
class LabelPlan:
    """How the label files of a dataset are read.

    Attributes:
        rules: from files to values.
        labels: names of the values; none if they follow from the values found (:meth:`resolve`).
        cases: with ``labeled`` set where a case lacks a label's file and this is to mean "unknown".
        fields: what the user states of the labels, merged over the names that ``resolve`` finds.
        folder: where files that name the labels may lie.
    """

    rules: LabelReader
    labels: LabelSchema | None
    cases: list[Case]
    fields: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    def resolve(self, values: Iterable[int]) -> ResolvedLabels:
        """The labels of a dataset whose label files hold ``values``.

        Without declared names they come from a file of names beside the data that has all values, else from
        the values. Raises: ConfigError if there are no labels to learn, or the user's statements do not fit.
        """
        if self.labels is not None:
            return ResolvedLabels(self.labels)
        found = set(values) - {self.fields.get("ignore_value")}
        table = read_label_names(self.folder, found) if self.folder is not None else None
        labels = merge_labels(table.labels if table else guess_labels(found), self.fields)
        assert labels is not None
        note = f"label names: from {table.path}" if table else naming_hint(labels)
        return ResolvedLabels(labels, note, guessed=table is None)


@dataclass(frozen=True)
class ResolvedLabels:
    """Labels, what the user should know about their names, if anything, and whether these are guessed."""

    labels: LabelSchema
    note: str | None = None
    guessed: bool = False


@dataclass(frozen=True)
class LabelStatement:
    """What a user says of the labels; see ``DataConfig`` for the meaning of each.

    Attributes:
        labels: whole labels, such as those of a ``medseg.json``; the fields set in them count.
        fields: fields of :class:`LabelSchema` by name, stated one by one; they win over those of ``labels``.
    """

    labels: LabelSchema | None = None
    colors: dict[str, Color] | None = None
    overlapping: bool = False
    soft: bool = False
    missing: Missing = "refuse"
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stated(self) -> dict[str, Any]:
        """The fields of :class:`LabelSchema` that the user set."""
        own = {} if self.labels is None else _fields(self.labels, self.labels.model_fields_set)
        return {**own, **self.fields}

    def with_labels(self, labels: LabelSchema) -> LabelStatement:
        """The same statement about other labels: their names win, other fields win over theirs."""
        rest = {name: value for name, value in self.fields.items() if name != "names"}
        return replace(self, labels=labels, fields=rest)


def merge_labels(declared: LabelSchema | None, stated: Mapping[str, Any]) -> LabelSchema | None:
    """Labels whose fields are those that the user set, and else those that are declared.

    What is declared about names (regions, pairs, colors, codes, whether the first is background) holds as
    long as the user keeps those names. Collapsed instances are one foreground, unless two labels are declared.

    Args:
        declared: by the layout, or guessed.
        stated: fields of :class:`LabelSchema`, by name.

    Returns: none if nobody names the labels.

    Raises: ConfigError that names the labels there are, if what is stated does not fit them.
    """
    fields = dict(stated)
    if fields.get("collapse_instances") and "names" not in fields:
        two = declared is not None and len(declared.names) == 2
        fields["names"] = declared.names if declared and two else {"background": (0,), "foreground": (1,)}
    if declared is not None:
        fields = _declared_fields(declared, fields) | fields
    if "names" not in fields:
        return None
    try:
        return LabelSchema.model_validate(fields)
    except ValidationError as error:
        whose = "" if "names" in stated else "what is stated does not fit the labels of the dataset: "
        faults = "; ".join(str(e["msg"]).removeprefix("Value error, ") for e in error.errors())
        raise ConfigError(f"{whose}{faults}") from error


def naming_hint(labels: LabelSchema) -> str | None:
    """How to name labels that are named after their values; none where all have names."""
    if not any(name == f"label_{values[0]}" for name, values in labels.names.items()):
        return None
    table = ", ".join(f"{name}: {values[0]}" for name, values in list(labels.names.items())[:6])
    rest = ", …" if len(labels.names) > 6 else ""
    return f"label names are not declared; to name them set data.labels='{{{table}{rest}}}' with your names"


def _fields(labels: LabelSchema, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(labels, name) for name in names}


def _declared_fields(declared: LabelSchema, stated: Mapping[str, Any]) -> dict[str, Any]:
    """The declared fields that still hold beside those that the user set."""
    fields = _fields(declared, LabelSchema.model_fields)
    names: Mapping[str, Any] = stated.get("names", declared.names)
    values = {v for group in names.values() for v in (group if isinstance(group, tuple | list) else (group,))}
    if all(member in names for members in declared.regions.values() for member in members):
        regions = declared.regions
    else:
        regions = {}
    known = {*names, *stated.get("regions", regions)}
    return fields | {
        "ignore_value": None if declared.ignore_value in values else declared.ignore_value,
        "background": declared.background or next(iter(names)) != next(iter(declared.names)),
        "collapse_instances": declared.collapse_instances and len(names) == 2,
        "regions": regions,
        "pairs": tuple(pair for pair in declared.pairs if set(pair) <= set(names)),
        "colors": {name: color for name, color in declared.colors.items() if name in names},
        "terminology": {name: code for name, code in declared.terminology.items() if name in known},
    }


def plan_labels(
    cases: list[Case],
    stated: LabelStatement,
    declared: LabelSchema | None = None,
    *,
    folder: Path | None = None,
) -> LabelPlan:
    """Decide how label files are read.

    Args:
        cases: of the dataset.
        stated: what the user says; it wins field by field over ``declared``.
        declared: the labels that the layout names.
        folder: of the dataset, or its manifest: files beside it may name the labels.

    Labels are drawn in the colors stated, else in those declared.
    Raises: ConfigError if the statements contradict each other; DataError if cases lack files of labels.
    """
    fields = stated.stated
    labels = merge_labels(declared, fields)
    plan = _plan(cases, stated, labels)
    colors = (labels.colors if labels else {}) | (stated.colors or {})
    if plan.labels and colors:
        plan = replace(plan, labels=plan.labels.with_colors(colors))
    return replace(plan, fields=fields, folder=folder)


def _plan(cases: list[Case], stated: LabelStatement, labels: LabelSchema | None) -> LabelPlan:
    masks = sorted({name for case in cases for name in case.masks})
    if stated.overlapping:
        return _overlapping(cases, masks, stated, labels)
    if stated.soft:
        return _soft(cases, masks, stated, labels)
    if stated.colors:
        return _colored(cases, stated.colors, labels, stated.stated)
    if masks:
        return _masked(cases, masks, labels, stated)
    return LabelPlan(LabelReader(), labels, cases)


def _overlapping(
    cases: list[Case], masks: list[str], stated: LabelStatement, labels: LabelSchema | None
) -> LabelPlan:
    names = tuple(list(labels.names)[1:]) if labels else tuple(n for n in masks if n != "background")
    if not names:
        raise ConfigError("data.overlapping: name the labels that may overlap under data.labels")
    fields = stated.stated
    joined = overlapping_labels(names, pairs=fields.get("pairs", labels.pairs if labels else ()))
    joined = merge_labels(
        joined, {k: fields[k] for k in ("others", "terminology", "ignore_value") if k in fields}
    )
    assert joined is not None
    ignored = _ignored_masks(masks, names, joined)
    values = {name: 1 << i for i, name in enumerate(names)}
    rules = LabelReader(values=values, overlapping=True, ignored=ignored)
    return LabelPlan(rules, joined, _complete(cases, list(names), stated.missing))


def _soft(cases: list[Case], masks: list[str], stated: LabelStatement, labels: LabelSchema | None) -> LabelPlan:
    names = list(labels.names) if labels else ["background", *(n for n in masks if n != "background")]
    if len(names) < 2:
        raise ConfigError("data.soft: name the channels of the probability maps under data.labels")
    fields = {k: v for k, v in stated.stated.items() if k != "names"}
    if fields.pop("ignore_value", None) is not None:
        raise ConfigError("data.soft: probability maps hold no label values, so leave out data.ignore_value")
    table = {name: i for i, name in enumerate(names)}
    soft = merge_labels(LabelSchema(names={name: (value,) for name, value in table.items()}), fields)
    assert soft is not None
    rules = LabelReader(values=table, soft=True, ignored=_ignored_masks(masks, names, soft))
    drawn = [name for name in names[1:] if name in masks]
    return LabelPlan(rules, soft, _complete(cases, drawn, stated.missing))


def _colored(
    cases: list[Case], colors: dict[str, Color], labels: LabelSchema | None, fields: Mapping[str, Any]
) -> LabelPlan:
    if labels is None:
        named = [name for name in colors if name != "ignore"]
        labels = merge_labels(LabelSchema(names={name: (value,) for value, name in enumerate(named)}), fields)
        assert labels is not None
    ignored = {"ignore": labels.ignore_value} if labels.ignore_value is not None else {}
    values = {name: group[0] for name, group in labels.names.items()} | ignored
    unknown = [name for name in colors if name not in values]
    if unknown:
        raise ConfigError(
            f"data.colors names {unknown}, which data.labels does not; known: {list(values)}. Add them to "
            "data.labels; a color named ignore needs data.ignore_value."
        )
    shared = [name for name, color in colors.items() if list(colors.values()).count(color) > 1]
    if shared:
        raise ConfigError(f"data.colors: labels share a color, by which they are told apart: {shared}")
    return LabelPlan(LabelReader(values=values, colors=colors), labels, cases)


def _masked(
    cases: list[Case], masks: list[str], labels: LabelSchema | None, stated: LabelStatement
) -> LabelPlan:
    if labels is None:
        others = [name for name in masks if name != "background"]
        table = {"background": (0,)} | {name: (i,) for i, name in enumerate(others, start=1)}
        labels = merge_labels(LabelSchema(names=table), stated.stated)
        assert labels is not None
    wanted = {name: group[0] for name, group in labels.names.items()}
    ignored = _ignored_masks(masks, wanted, labels)
    values = {name: value for name, value in wanted.items() if name != next(iter(wanted))}
    named = [name for name in values if name in masks]
    rules = LabelReader(values=values, ignored=ignored)
    return LabelPlan(rules, labels, _complete(cases, named, stated.missing))


def _ignored_masks(masks: list[str], names: Iterable[str], labels: LabelSchema) -> dict[str, int]:
    """Files of labels that are not declared and whose voxels ``data.others`` ignores: label → value.

    Raises: DataError if such files are neither background nor ignored.
    """
    known = set(names)
    foreign = [name for name in masks if name not in known and name != "background"]
    if foreign and labels.others == "refuse":
        raise DataError(
            f"label files nobody named: {', '.join(foreign)}. Known: {', '.join(names)}. Name them under "
            "data.labels, or set data.others=background to leave them out."
        )
    if labels.others != "ignore":
        return {}
    declared = {v for group in labels.names.values() for v in group}
    unused = next(v for v in range(len(declared) + 1) if v not in declared)
    return dict.fromkeys(foreign, unused if labels.ignore_value is None else labels.ignore_value)


def _complete(cases: list[Case], names: list[str], missing: Missing) -> list[Case]:
    """Cases of masks, where those that lack a file are refused, or say which labels they have.

    A case that says which labels were annotated in it needs the files of those only.
    """
    lacking: dict[str, list[str]] = {}
    for case in cases:
        if case.masks and case.part != "test":
            needed = [n for n in names if case.labeled is None or n in case.labeled]
            lacking[case.id] = [n for n in needed if n not in case.masks]
    lacking = {case: found for case, found in lacking.items() if found}
    if missing == "refuse" and lacking:
        lines = [f"case {case}: no file of {', '.join(found)}" for case, found in lacking.items()]
        way_out = "set data.missing=empty if the structure is not there, data.missing=unknown if nobody drew it"
        raise DataError(join_problems(f"label files are missing ({way_out})", lines))
    if missing == "unknown":
        drawn = {c.id: tuple(n for n in names if n in c.masks) for c in cases if c.id in lacking}
        return [replace(c, labeled=drawn[c.id]) if c.id in drawn else c for c in cases]
    return cases
