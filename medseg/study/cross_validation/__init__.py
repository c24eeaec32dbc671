"""Cross-validation: folds, out-of-fold predictions, and one model of all folds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.system.lazy_imports import lazy_names

if TYPE_CHECKING:
    from medseg.study.cross_validation.options import CrossValidationConfig, CrossValidationResult, FailedFold
    from medseg.study.cross_validation.run import cross_validate

__all__ = ["CrossValidationConfig", "CrossValidationResult", "FailedFold", "cross_validate"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "medseg.study.cross_validation.options": (
            "CrossValidationConfig",
            "CrossValidationResult",
            "FailedFold",
        ),
        "medseg.study.cross_validation.run": ("cross_validate",),
    },
)
