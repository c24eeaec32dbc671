"""Merge what a user declares about labels with what a dataset declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from medseg.data.labels.schema import LabelSchema
from medseg.errors import ConfigError


def merge_schema(fields: Mapping[str, Any], declared: LabelSchema | None = None) -> LabelSchema | None:
    """Merge fields set by the user with a declared schema, field by field.

    A field that is set wins. Otherwise the declared one counts as long as it fits the names: regions, pairs,
    colors, terminology and ``background`` refer to names, so they hold for names that are kept. Collapsed
    instances are one foreground unless two labels are declared.

    Args:
        fields: fields of :class:`LabelSchema`, by name.
        declared: the schema of the layout, or a guessed one.

    Returns:
        The merged schema; None if neither side names the labels.

    Raises:
        ConfigError: the fields do not fit the declared labels, whose names the message lists.
    """
    merged = dict(fields)
    if merged.get("collapse_instances") and "names" not in merged:
        two = declared is not None and len(declared.names) == 2
        merged["names"] = declared.names if declared and two else {"background": (0,), "foreground": (1,)}
    if declared is not None:
        merged = _applicable_fields(declared, merged) | merged
    if "names" not in merged:
        return None
    try:
        return LabelSchema.model_validate(merged)
    except ValidationError as error:
        whose = "" if "names" in fields else "data.labels does not fit the labels of the dataset: "
        faults = "; ".join(str(e["msg"]).removeprefix("Value error, ") for e in error.errors())
        raise ConfigError(f"{whose}{faults}") from error


def _applicable_fields(declared: LabelSchema, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the declared fields that fit the names and regions the user keeps or sets."""
    names: Mapping[str, Any] = fields.get("names", declared.names)
    values = {v for group in names.values() for v in (group if isinstance(group, tuple | list) else (group,))}
    regions = declared.regions
    if any(member not in names for members in regions.values() for member in members):
        regions = {}
    classes = {*names, *fields.get("regions", regions)}
    return {name: getattr(declared, name) for name in LabelSchema.model_fields} | {
        "ignore_value": None if declared.ignore_value in values else declared.ignore_value,
        "background": declared.background or next(iter(names)) != next(iter(declared.names)),
        "collapse_instances": declared.collapse_instances and len(names) == 2,
        "regions": regions,
        "pairs": tuple(pair for pair in declared.pairs if set(pair) <= set(names)),
        "colors": {name: color for name, color in declared.colors.items() if name in names},
        "terminology": {name: term for name, term in declared.terminology.items() if name in classes},
    }
