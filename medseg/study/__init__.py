"""Studies: several trainings on the same cases, and what differs between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.system.lazy_imports import lazy_names

if TYPE_CHECKING:
    from medseg.study.ablation import AblationConfig, AblationResult, run_ablation
    from medseg.study.cell_run import RunOutcome
    from medseg.study.cells import Cell, Design, plan_cells
    from medseg.study.cross_validation import CrossValidationConfig, CrossValidationResult, cross_validate
    from medseg.study.methods import ComparisonInputs, compare_runs

__all__ = [
    "AblationConfig",
    "AblationResult",
    "Cell",
    "ComparisonInputs",
    "CrossValidationConfig",
    "CrossValidationResult",
    "Design",
    "RunOutcome",
    "compare_runs",
    "cross_validate",
    "plan_cells",
    "run_ablation",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "medseg.study.ablation": ("AblationConfig", "AblationResult", "run_ablation"),
        "medseg.study.cell_run": ("RunOutcome",),
        "medseg.study.cells": ("Cell", "Design", "plan_cells"),
        "medseg.study.cross_validation": (
            "CrossValidationConfig",
            "CrossValidationResult",
            "cross_validate",
        ),
        "medseg.study.methods": ("ComparisonInputs", "compare_runs"),
    },
)
