"""Keys that had another name in earlier versions: refused in YAML with the new name, read in model files."""

from __future__ import annotations

from typing import Any, cast

RENAMED_KEYS = {
    "codes": "terminology",
    "colours": "colors",
    "neighbours": "neighbors",
    "normalise": "normalize",
    "optimiser": "optimizer",
    "unlabelled": "unlabeled",
}
"""Old name → current name, wherever the key appears."""

MOVED_KEYS = {
    "data.background": "data.labels.background",
    "data.codes": "data.labels.terminology",
    "data.colors": "data.labels.colors",
    "data.colours": "data.labels.colors",
    "data.ignore_value": "data.labels.ignore_value",
    "data.instances": "data.labels.instances",
    "data.missing": "data.labels.missing",
    "data.others": "data.labels.others",
    "data.overlapping": "data.labels.overlapping",
    "data.pairs": "data.labels.pairs",
    "data.regions": "data.labels.regions",
    "data.soft": "data.labels.soft",
}
"""Old place → current place of settings that moved to another block."""


def rename_keys(value: Any) -> Any:
    """Return a JSON value with all keys of :data:`RENAMED_KEYS` replaced, at any depth."""
    if isinstance(value, dict):
        items = cast(dict[str, Any], value).items()
        return {RENAMED_KEYS.get(key, key): rename_keys(below) for key, below in items}
    if isinstance(value, list):
        return [rename_keys(below) for below in cast(list[Any], value)]
    return value
