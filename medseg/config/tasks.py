"""``task``: the kinds of tasks, and what a network that answers prompts asks of the other settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

from pydantic import Field

from medseg.instances.options import InstanceTask, SemanticTask
from medseg.prompts.options import PromptTask

if TYPE_CHECKING:
    from medseg.config.schema import RunConfig

TaskConfig = Annotated[SemanticTask | InstanceTask | PromptTask, Field(discriminator="name")]

MONITORS = ("clicks", "clicks:1", "clicks:5")
"""Scores of a network that answers prompts: Dice after one and after five simulated clicks, and their mean."""


def fill_prompts(settings: dict[str, Any]) -> dict[str, Any]:
    """Fill in what follows from ``task.name=prompts``: every patch contains a class, ``train.monitor=clicks``.

    Args:
        settings: nested mappings; blocks may also be settings that are validated already.

    Example:
        >>> fill_prompts({"task": {"name": "prompts"}})["train"]
        {'monitor': 'clicks'}
    """
    task = settings.get("task")
    name = cast(dict[str, Any], task).get("name") if isinstance(task, dict) else getattr(task, "name", None)
    if name != "prompts":
        return settings
    filled = dict(settings)
    for block, key, value in (("train", "monitor", MONITORS[0]), ("sampling", "forced_share", 1.0)):
        before = filled.get(block)
        if before is None or isinstance(before, dict):
            filled[block] = {key: value, **cast(dict[str, Any], before or {})}
    return filled


def check_prompts(config: RunConfig) -> None:
    """Raise ValueError for settings that are not possible in a network that answers prompts."""
    task = config.task
    assert isinstance(task, PromptTask)
    refused = {
        "activation=sigmoid": config.activation == "sigmoid",
        "cascade": config.cascade is not None,
        "preprocess.slices": config.preprocess.slices is not None,
        "sampling.balance=adaptive": config.sampling.balance == "adaptive",
        "train.unlabeled": config.train.unlabeled is not None,
        "train.distributed.strategy=fsdp": config.train.distributed.strategy == "fsdp",
        "inference.flips": bool(config.inference.flips),
        "inference.scales": bool(config.inference.scales),
        "inference.blend=exact": config.inference.blend == "exact",
        "inference.postprocess": bool(config.inference.postprocess.names),
    }
    used = [name for name, value in refused.items() if value]
    if used:
        raise ValueError(f"task.name=prompts: not possible with {' and '.join(used)}; leave them out")
    if task.objects == "instances" and config.data.instances is None:
        raise ValueError("task.objects=instances needs data.instances; set it, or task.objects=components")
