"""medseg: train, run and evaluate segmentation networks on medical images, in 2D and 3D.

The names below are the public API. They are imported when first used, so ``import medseg`` is quick.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from medseg.system.lazy_imports import import_optional_late, lazy_names

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# They take longer than all of medseg; MONAI uses them in MLFlowHandler and TransCheX only.
import_optional_late("monai", ("mlflow", "transformers"))

if TYPE_CHECKING:
    from medseg.config.schema import RunConfig, load_config
    from medseg.errors import ConfigError, DataError, GeometryError, MedsegError, ModelFileError
    from medseg.evaluation import Evaluation, EvaluationOptions, evaluate_cases
    from medseg.evaluation.interactive import evaluate_interactive
    from medseg.inference.batch.batch_inference import infer_cases
    from medseg.inference.interactive.interactive import Interactive
    from medseg.inference.model.prediction import Prediction
    from medseg.inference.model.predictor import Predictor
    from medseg.progress import ConsoleProgress, QuietProgress
    from medseg.study.methods import compare_runs
    from medseg.training.fit import RunResult, fit
    from medseg.training.pacing.budget_clock import TimeBudget
    from medseg.training.tracking.callbacks import Callback

__all__ = [
    "Callback",
    "ConfigError",
    "ConsoleProgress",
    "DataError",
    "Evaluation",
    "EvaluationOptions",
    "GeometryError",
    "Interactive",
    "MedsegError",
    "ModelFileError",
    "Prediction",
    "Predictor",
    "QuietProgress",
    "RunConfig",
    "RunResult",
    "TimeBudget",
    "compare_runs",
    "evaluate_cases",
    "evaluate_interactive",
    "fit",
    "infer_cases",
    "load_config",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "medseg.config.schema": ("RunConfig", "load_config"),
        "medseg.errors": ("ConfigError", "DataError", "GeometryError", "MedsegError", "ModelFileError"),
        "medseg.evaluation": ("Evaluation", "EvaluationOptions", "evaluate_cases"),
        "medseg.evaluation.interactive": ("evaluate_interactive",),
        "medseg.inference.batch.batch_inference": ("infer_cases",),
        "medseg.inference.interactive.interactive": ("Interactive",),
        "medseg.inference.model.prediction": ("Prediction",),
        "medseg.inference.model.predictor": ("Predictor",),
        "medseg.progress": ("ConsoleProgress", "QuietProgress"),
        "medseg.study.methods": ("compare_runs",),
        "medseg.training.tracking.callbacks": ("Callback",),
        "medseg.training.fit": ("RunResult", "fit"),
        "medseg.training.pacing.budget_clock": ("TimeBudget",),
    },
)
