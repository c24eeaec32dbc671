"""Configuration of a run: typed settings from YAML, Python and the command line.

``RunConfig`` and its functions are imported on first use: every component's options derive from
``medseg.config.base.Spec``, and the schema composes those options.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.system.lazy_imports import lazy_names

if TYPE_CHECKING:
    from medseg.config.schema import RunConfig, load_config, to_yaml

__all__ = ["RunConfig", "load_config", "to_yaml"]

__getattr__, __dir__ = lazy_names(__name__, {"medseg.config.schema": __all__})
