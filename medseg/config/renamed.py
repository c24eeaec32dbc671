"""Keys and values that had another name in earlier versions.

In YAML, a former key raises an error that gives the new name; in model files, former keys and values are read
under the new names.
"""

from __future__ import annotations

from typing import Any, cast

RENAMED_KEYS = {
    "codes": "terminology",
    "colours": "colors",
    "known": "published",
    "neighbours": "neighbors",
    "normalise": "normalize",
    "optimiser": "optimizer",
    "unlabelled": "unlabeled",
}
"""Former name → current name, wherever the key appears."""

RENAMED_KEYS_OF = {
    "segresnet": {"groups": "norm_groups"},
    "unet": {"groups": "norm_groups"},
}
"""Name of a block → former key → current key, in blocks of that name only."""

_RENAMED_NAMES = {"injected": "custom"}
_RENAMED_VALUES = {("unet", "up", "bilinear"): "linear"}


def current_key(key: str, block: str | None = None) -> str | None:
    """Return the current name of a former key, or None if the key was not renamed.

    Args:
        key: the former key.
        block: ``name`` of the block that holds the key, if it has one.
    """
    return RENAMED_KEYS_OF.get(block or "", {}).get(key) or RENAMED_KEYS.get(key)


MOVED_KEYS = {
    "data.background": "data.labels.background",
    "data.codes": "data.labels.terminology",
    "data.colors": "data.labels.colors",
    "data.colours": "data.labels.colors",
    "data.ignore_value": "data.labels.ignore_value",
    "data.missing": "data.labels.missing",
    "data.others": "data.labels.others",
    "data.overlapping": "data.labels.overlapping",
    "data.pairs": "data.labels.pairs",
    "data.regions": "data.labels.regions",
    "data.soft": "data.labels.soft",
}
"""Old place → current place of settings that moved to another block."""


def rename_keys(value: Any) -> Any:
    """Return a JSON value with all former keys and values replaced by the current ones, at any depth."""
    if isinstance(value, dict):
        items = cast(dict[str, Any], value)
        name = items.get("name")
        block = name if isinstance(name, str) else ""
        renamed = {current_key(key, block) or key: rename_keys(below) for key, below in items.items()}
        for key, below in renamed.items():
            if isinstance(below, str):
                renamed[key] = _RENAMED_VALUES.get((block, key, below), below)
        if block in _RENAMED_NAMES:
            renamed["name"] = _RENAMED_NAMES[block]
        return renamed
    if isinstance(value, list):
        return [rename_keys(below) for below in cast(list[Any], value)]
    return value
