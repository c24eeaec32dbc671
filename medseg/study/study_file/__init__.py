"""Studies as files: configurations × datasets × seeds × folds, and the comparisons at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.system.lazy_imports import lazy_names

if TYPE_CHECKING:
    from medseg.study.study_file.loading import load_study, plan_study
    from medseg.study.study_file.run import StudyResult, plan_runs, run_study_file
    from medseg.study.study_file.schema import ComparisonEntry, ConfigEntry, DatasetEntry, StudyConfig

__all__ = [
    "ComparisonEntry",
    "ConfigEntry",
    "DatasetEntry",
    "StudyConfig",
    "StudyResult",
    "load_study",
    "plan_runs",
    "plan_study",
    "run_study_file",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "medseg.study.study_file.loading": ("load_study", "plan_study"),
        "medseg.study.study_file.run": ("StudyResult", "plan_runs", "run_study_file"),
        "medseg.study.study_file.schema": ("ComparisonEntry", "ConfigEntry", "DatasetEntry", "StudyConfig"),
    },
)
