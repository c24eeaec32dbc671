"""Sweeps: search for better settings by trainings that are compared on the validation cases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.system.lazy_imports import lazy_names

if TYPE_CHECKING:
    from medseg.study.sweep.records import TrialRecord
    from medseg.study.sweep.results import SweepResult
    from medseg.study.sweep.search_space.options import Domain, SweepConfig, read_sweep
    from medseg.study.sweep.sweep import run_sweep

__all__ = ["Domain", "SweepConfig", "SweepResult", "TrialRecord", "read_sweep", "run_sweep"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "medseg.study.sweep.search_space.options": ("Domain", "SweepConfig", "read_sweep"),
        "medseg.study.sweep.records": ("TrialRecord",),
        "medseg.study.sweep.results": ("SweepResult",),
        "medseg.study.sweep.sweep": ("run_sweep",),
    },
)
