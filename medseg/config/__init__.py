"""Configuration of a run: typed settings from YAML, Python and the command line.

``RunConfig`` and its functions are imported on first use: every component's options derive from
``medseg.config.base.Spec``, and the schema composes those options.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medseg.config.schema import RunConfig, load_config, to_yaml

__all__ = ["RunConfig", "load_config", "to_yaml"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("medseg.config.schema"), name)
    raise AttributeError(f"module 'medseg.config' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
