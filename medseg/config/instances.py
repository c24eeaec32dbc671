"""Defaults of runs that tell objects apart: ``task`` and ``data.instances`` imply each other."""

from __future__ import annotations

from typing import Any, cast

from medseg.instances.options import InstanceTask

DETECTORS = ("maskrcnn", "retina_unet")
"""Architectures that return objects instead of maps."""


def fill_instances(settings: dict[str, Any]) -> dict[str, Any]:
    """Fill in what follows from ``data.instances`` or ``task.name=instances`` in the settings of a run.

    Args:
        settings: nested mappings; blocks may also be settings that are validated already.

    Returns:
        Settings with ``task``, ``data.instances`` and ``train.monitor``; unchanged if objects are classes only.

    Example:
        >>> fill_instances({"data": {"instances": "keep"}})["task"]
        {'name': 'instances'}
    """
    source, task = _entry(settings.get("data"), "instances"), settings.get("task")
    named, detector = _entry(task, "name"), _entry(settings.get("model"), "name") in DETECTORS
    has_decoder = isinstance(task, dict) and {"decoder", "rays", "weight"} & set(cast(dict[str, Any], task))
    wanted = named == "instances" or (named is None and (detector or source is not None or bool(has_decoder)))
    if not wanted:
        if source is not None and named == "semantic":
            raise ValueError(
                "data.instances tells objects apart, but task.name is semantic; leave one of them out"
            )
        return settings
    filled = dict(settings)
    if not isinstance(task, InstanceTask):
        decoder = {"decoder": "boxes"} if detector else {}
        filled["task"] = {"name": "instances", **decoder, **cast(dict[str, Any], task or {})}
    if source is None:
        filled["data"] = _with(settings.get("data"), "instances", "keep")
    if _entry(settings.get("train"), "monitor") is None:
        filled["train"] = _with(settings.get("train"), "monitor", "instances")
    return filled


def _entry(block: object, key: str) -> object:
    """Return an entry of a block of settings, whether it is validated already or not; None if it is not set."""
    if isinstance(block, dict):
        return cast(dict[str, Any], block).get(key)
    return getattr(block, key, None)


def _with(block: object, key: str, value: object) -> object:
    """Return a block with another entry."""
    if block is None or isinstance(block, dict):
        return {**cast(dict[str, Any], block or {}), key: value}
    copy: Any = block
    return copy.model_copy(update={key: value})
