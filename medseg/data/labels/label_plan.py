"""Plan how the label files of a dataset are read, from what the user and the dataset declare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medseg.data.cases import Case, join_problems
from medseg.data.io.coco_panoptic import is_panoptic_label
from medseg.data.labels.config import LabelConfig, Missing
from medseg.data.labels.foreground_values import ForegroundValues
from medseg.data.labels.merging import merge_schema
from medseg.data.labels.names.files import read_label_names
from medseg.data.labels.objects.files import countable_schema, has_object_files, is_drawn, is_geojson
from medseg.data.labels.objects.numbered_files import describe_numbered_files
from medseg.data.labels.objects.numbering import MOST_LABELS, InstanceSource
from medseg.data.labels.overlapping import overlapping_schema
from medseg.data.labels.reader import AS_STORED, LabelReader
from medseg.data.labels.schema import Color, LabelSchema, guess_schema
from medseg.errors import ConfigError, DataError

DEFAULT_CONFIG = LabelConfig()


@dataclass(frozen=True)
class LabelDeclarations:
    """Everything that is declared about the labels of a dataset, by whom.

    Attributes:
        config: settings of ``data.labels``.
        schema: labels of the user's ``--labels``, such as those of a ``medseg.json``. Its names replace those
            of ``config``; other settings of ``config`` replace its fields.
        layout: labels that the dataset's layout declares; the user's fields replace them.
        instances: how objects are separated, as ``data.instances``.
    """

    config: LabelConfig = DEFAULT_CONFIG
    schema: LabelSchema | None = None
    layout: LabelSchema | None = None
    instances: InstanceSource | None = None

    @property
    def user_fields(self) -> dict[str, Any]:
        """Fields of :class:`LabelSchema` that the user set."""
        fields = self.config.schema_fields()
        if self.schema is None:
            return fields
        fields.pop("names", None)
        return {name: getattr(self.schema, name) for name in self.schema.model_fields_set} | fields

    def merged(self) -> LabelSchema | None:
        """Merge the user's fields with those of the layout; None if neither names the labels."""
        return merge_schema(self.user_fields, self.layout)

    def merged_over(self, base: LabelSchema, fields: Iterable[str] | None = None) -> LabelSchema:
        """Merge the user's fields, or those of them that are named, with ``base``."""
        kept = self.user_fields
        if fields is not None:
            kept = {name: value for name, value in kept.items() if name in set(fields)}
        merged = merge_schema(kept, base)
        assert merged is not None
        return merged


@dataclass(frozen=True)
class ResolvedSchema:
    """The labels of a dataset.

    Attributes:
        schema: names, values and meaning.
        note: what the user should know about the names, if anything.
        guessed: whether the names follow from the values alone.
    """

    schema: LabelSchema
    note: str | None = None
    guessed: bool = False


@dataclass(frozen=True)
class LabelPlan:
    """How the label files of a dataset are read.

    Attributes:
        reader: reads label files into values.
        schema: meaning of the values; None if it follows from the values found (:meth:`resolve`).
        cases: the cases, with ``labeled`` set where a missing label file means ``unknown``.
        declarations: what is declared about the labels.
        folder: folder of the dataset, in which files may name the labels.
        note: what was assumed about the files, if the user should know.
    """

    reader: LabelReader
    schema: LabelSchema | None
    cases: list[Case]
    declarations: LabelDeclarations = LabelDeclarations()
    folder: Path | None = None
    note: str | None = None

    @property
    def user_fields(self) -> Mapping[str, Any]:
        """Fields of :class:`LabelSchema` that the user set."""
        return self.declarations.user_fields

    @property
    def foreground(self) -> ForegroundValues:
        """Values that count in statistics of intensities."""
        return ForegroundValues.of(self.schema, self.user_fields.get("ignore_value"))

    def resolve(self, values: Iterable[int]) -> ResolvedSchema:
        """Return the schema of a dataset whose label files hold ``values``.

        If no names are declared, they come from a file beside the data that names all values, else from the
        values.

        Raises:
            ConfigError: there are no labels to learn, or the user's settings do not fit them.
        """
        if self.schema is not None:
            return ResolvedSchema(self.schema, self.note)
        present = set(values) - {self.user_fields.get("ignore_value")}
        table = read_label_names(self.folder, present) if self.folder is not None else None
        schema = self.declarations.merged_over(table.schema if table else guess_schema(present))
        note = f"label names: from {table.path}" if table else naming_hint(schema)
        return ResolvedSchema(schema, note, guessed=table is None)


def plan_labels(
    cases: list[Case],
    declarations: LabelDeclarations | None = None,
    *,
    folder: Path | None = None,
) -> LabelPlan:
    """Plan how label files are read.

    Labels are drawn in the colors of ``data.labels.colors``, else in those of the layout.

    Args:
        cases: cases of the dataset.
        declarations: what is declared about the labels.
        folder: folder of the dataset, or its manifest; files beside it may name the labels.

    Raises:
        ConfigError: the declarations contradict each other.
        DataError: cases lack label files.
    """
    declared = declarations or LabelDeclarations()
    schema = declared.merged()
    plan = _plan(cases, declared, schema)
    colors = (schema.colors if schema else {}) | (declared.config.colors or {})
    if plan.schema and colors:
        plan = replace(plan, schema=plan.schema.with_colors(colors))
    return replace(plan, declarations=declared, folder=folder)


def naming_hint(schema: LabelSchema) -> str | None:
    """Describe how to name labels that are named after their values; None if all have names."""
    if not any(name == f"label_{values[0]}" for name, values in schema.names.items()):
        return None
    table = ", ".join(f"{name}: {values[0]}" for name, values in list(schema.names.items())[:6])
    rest = ", …" if len(schema.names) > 6 else ""
    return f"label names are not declared; to name them set data.labels='{{{table}{rest}}}' with your names"


def _plan(cases: list[Case], declared: LabelDeclarations, schema: LabelSchema | None) -> LabelPlan:
    masks = sorted({name for case in cases for name in case.masks})
    if declared.instances is not None:
        return _plan_instances(cases, masks, declared, schema)
    if declared.config.overlapping:
        return _plan_overlapping(cases, masks, declared, schema)
    if declared.config.soft:
        return _plan_soft(cases, masks, declared, schema)
    if declared.config.colors:
        return _plan_colors(cases, declared.config.colors, declared, schema)
    if has_object_files(cases, masks, schema):
        return _plan_object_files(cases, declared, schema)
    if masks:
        return _plan_masks(cases, masks, declared, schema)
    if schema is not None and any(is_panoptic_label(case.label) for case in cases):
        return LabelPlan(LabelReader(crowd_value=schema.ignore_value), schema, cases)
    if schema is not None and any(is_geojson(case.label) for case in cases):
        names = {name: group[0] for name, group in list(schema.names.items())[1:]}
        return LabelPlan(LabelReader(values=names), schema, cases)
    return LabelPlan(AS_STORED, schema, cases)


def _plan_object_files(cases: list[Case], declared: LabelDeclarations, schema: LabelSchema | None) -> LabelPlan:
    schema = schema or declared.merged_over(LabelSchema(names={"background": (0,), "object": (1,)}))
    name, value = list(schema.names.items())[1]
    return LabelPlan(LabelReader(values={name: value[0]}, object_files=True), schema, cases)


def _plan_instances(
    cases: list[Case], masks: list[str], declared: LabelDeclarations, schema: LabelSchema | None
) -> LabelPlan:
    """Plan how objects are separated.

    Raises:
        ConfigError: the labels cannot hold objects.
    """
    config, source = declared.config, declared.instances
    if config.overlapping or config.soft or config.regions or config.colors:
        raise ConfigError(
            f"data.instances={source}: not possible with data.labels.overlapping, soft, regions or colors",
            hint="Leave them out: each object has one label.",
        )
    drawn = not masks and any(map(is_drawn, cases))
    objects = has_object_files(cases, masks, schema)
    named = objects or schema is not None or source != "keep"
    numbered = None if named else describe_numbered_files(cases)
    if schema is not None and any(is_panoptic_label(case.label) for case in cases):
        schema = countable_schema(cases, schema)
    if objects or numbered:
        plan = replace(_plan_object_files(cases, declared, schema), note=numbered)
    elif masks:
        plan = _plan_masks(cases, masks, declared, schema)
    else:
        if schema is None and source == "keep":
            schema = declared.merged_over(LabelSchema(names={"background": (0,), "object": (1,)}))
        if schema is not None and len(schema.names) > 2 and source == "keep" and not drawn:
            raise ConfigError(
                f"data.instances=keep: a label map numbers the objects of one label, but "
                f"{len(schema.names) - 1} labels are declared",
                hint="Store the objects of each label in a file of its own, or set data.instances=components.",
            )
        plan = LabelPlan(AS_STORED, schema, cases)
    if plan.schema is None:
        raise ConfigError(
            f"data.instances={source}: no labels are named",
            hint="Name them under data.labels.names, such as {background: 0, lesion: 1}.",
        )
    if len(plan.schema.names) > MOST_LABELS:
        raise ConfigError(
            f"data.instances={source}: {len(plan.schema.names)} labels; expected at most {MOST_LABELS}",
            hint="Declare fewer labels under data.labels.names, with several values each.",
        )
    crowds = drawn and source == "keep" and not any(is_geojson(case.label) for case in cases)
    schema = _with_crowds(plan.schema) if crowds else plan.schema
    reader = _object_reader(replace(plan, schema=schema), declared)
    one_value_each = schema.model_copy(update={"collapse_instances": False})
    return replace(plan, reader=reader, schema=one_value_each)


def _with_crowds(schema: LabelSchema) -> LabelSchema:
    """Return a schema with a value of ignored voxels, which crowds get."""
    if schema.ignore_value is not None:
        return schema
    free = max(value for group in schema.names.values() for value in group) + 1
    return schema.model_copy(update={"ignore_value": free})


def _object_reader(plan: LabelPlan, declared: LabelDeclarations) -> LabelReader:
    schema = plan.schema
    assert schema is not None
    names = list(schema.names)
    kept = {*schema.names[names[0]], *((schema.ignore_value,) if schema.ignore_value is not None else ())}
    values = plan.reader.values or {name: schema.names[name][0] for name in names[1:]}
    return plan.reader.model_copy(
        update={
            "values": values,
            "instances": declared.instances,
            "kept_values": tuple(sorted(kept)),
            "crowd_value": schema.ignore_value,
        }
    )


def _plan_overlapping(
    cases: list[Case], masks: list[str], declared: LabelDeclarations, schema: LabelSchema | None
) -> LabelPlan:
    names = tuple(list(schema.names)[1:]) if schema else tuple(n for n in masks if n != "background")
    if not names:
        raise ConfigError(
            "data.labels.overlapping is set, but no labels are named",
            hint="Name the labels that may overlap under data.labels.names.",
        )
    pairs = declared.user_fields.get("pairs", schema.pairs if schema else ())
    combined = declared.merged_over(
        overlapping_schema(names, pairs=pairs), ("others", "terminology", "ignore_value")
    )
    reader = LabelReader(
        values={name: 1 << i for i, name in enumerate(names)},
        overlapping=True,
        ignored=_ignored_masks(masks, names, combined),
    )
    return LabelPlan(reader, combined, _handle_missing(cases, list(names), declared.config.missing))


def _plan_soft(
    cases: list[Case], masks: list[str], declared: LabelDeclarations, schema: LabelSchema | None
) -> LabelPlan:
    names = list(schema.names) if schema else ["background", *(n for n in masks if n != "background")]
    if len(names) < 2:
        raise ConfigError(
            "data.labels.soft is set, but no labels are named",
            hint="Name the channels of the probability maps under data.labels.names.",
        )
    fields = set(declared.user_fields) - {"names"}
    if "ignore_value" in fields and declared.user_fields["ignore_value"] is not None:
        raise ConfigError(
            "data.labels.soft: probability maps hold no label values, so none can be ignored",
            hint="Leave out data.labels.ignore_value.",
        )
    values = {name: i for i, name in enumerate(names)}
    soft = declared.merged_over(LabelSchema(names={name: (v,) for name, v in values.items()}), fields)
    reader = LabelReader(values=values, soft=True, ignored=_ignored_masks(masks, names, soft))
    annotated = [name for name in names[1:] if name in masks]
    return LabelPlan(reader, soft, _handle_missing(cases, annotated, declared.config.missing))


def _plan_colors(
    cases: list[Case], colors: dict[str, Color], declared: LabelDeclarations, schema: LabelSchema | None
) -> LabelPlan:
    if schema is None:
        names = [name for name in colors if name != "ignore"]
        schema = declared.merged_over(LabelSchema(names={name: (value,) for value, name in enumerate(names)}))
    ignored = {"ignore": schema.ignore_value} if schema.ignore_value is not None else {}
    values = {name: group[0] for name, group in schema.names.items()} | ignored
    unknown = [name for name in colors if name not in values]
    if unknown:
        raise ConfigError(
            f"data.labels.colors names {unknown}, which are not among the labels {list(values)}",
            hint="Add them to data.labels.names; a color named ignore needs data.labels.ignore_value.",
        )
    shared = [name for name, color in colors.items() if list(colors.values()).count(color) > 1]
    if shared:
        raise ConfigError(f"data.labels.colors: labels share a color, which identifies them: {shared}")
    return LabelPlan(LabelReader(values=values, colors=colors), schema, cases)


def _plan_masks(
    cases: list[Case], masks: list[str], declared: LabelDeclarations, schema: LabelSchema | None
) -> LabelPlan:
    if schema is None:
        others = [name for name in masks if name != "background"]
        table = {"background": (0,)} | {name: (i,) for i, name in enumerate(others, start=1)}
        schema = declared.merged_over(LabelSchema(names=table))
    all_values = {name: group[0] for name, group in schema.names.items()}
    values = {name: value for name, value in all_values.items() if name != next(iter(all_values))}
    reader = LabelReader(values=values, ignored=_ignored_masks(masks, all_values, schema))
    annotated = [name for name in values if name in masks]
    return LabelPlan(reader, schema, _handle_missing(cases, annotated, declared.config.missing))


def _ignored_masks(masks: list[str], names: Iterable[str], schema: LabelSchema) -> dict[str, int]:
    """Return the undeclared label files whose voxels ``data.labels.others`` ignores: label → value.

    Raises:
        DataError: such files are neither background nor ignored.
    """
    declared = list(names)
    undeclared = [name for name in masks if name not in declared and name != "background"]
    if undeclared and schema.others == "refuse":
        raise DataError(
            f"undeclared label files: {', '.join(undeclared)}; declared: {', '.join(declared)}",
            hint="Name them under data.labels.names, or set data.labels.others=background to leave them out.",
        )
    if schema.others != "ignore":
        return {}
    values = {v for group in schema.names.values() for v in group}
    unused = next(v for v in range(len(values) + 1) if v not in values)
    return dict.fromkeys(undeclared, unused if schema.ignore_value is None else schema.ignore_value)


def _handle_missing(cases: list[Case], names: list[str], missing: Missing) -> list[Case]:
    """Check or mark the cases that lack files of labels, as ``data.labels.missing`` says.

    A case that declares which labels are annotated in it needs the files of those only.

    Raises:
        DataError: cases lack files, and ``missing`` is ``refuse``.
    """
    lacking: dict[str, list[str]] = {}
    for case in cases:
        if case.masks and case.part != "test":
            needed = [n for n in names if case.labeled is None or n in case.labeled]
            absent = [n for n in needed if n not in case.masks]
            if absent:
                lacking[case.id] = absent
    if missing == "refuse" and lacking:
        lines = [f"case {case}: no file of {', '.join(absent)}" for case, absent in lacking.items()]
        raise DataError(
            join_problems("label files are missing", lines),
            hint="Set data.labels.missing=empty if the structures are absent, or data.labels.missing=unknown "
            "if they were not annotated.",
        )
    if missing == "unknown":
        annotated = {c.id: tuple(n for n in names if n in c.masks) for c in cases if c.id in lacking}
        return [replace(c, labeled=annotated[c.id]) if c.id in annotated else c for c in cases]
    return cases
