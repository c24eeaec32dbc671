"""medseg: train, run and evaluate segmentation networks on medical images, in 2D and 3D.

The names below are the public API. They are imported when first used, so ``import medseg`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medseg.config.schema import RunConfig, load_config
    from medseg.errors import ConfigError, DataError, GeometryError, MedsegError, ModelFileError
    from medseg.evaluation import Evaluation, EvaluationOptions, evaluate_cases
    from medseg.inference.batch.batch_inference import infer_cases
    from medseg.inference.model.prediction import Prediction
    from medseg.inference.model.predictor import Predictor
    from medseg.progress import ConsoleProgress, QuietProgress
    from medseg.training.fit import RunResult, fit

_HOME = {
    "ConfigError": "medseg.errors",
    "ConsoleProgress": "medseg.progress",
    "DataError": "medseg.errors",
    "Evaluation": "medseg.evaluation",
    "EvaluationOptions": "medseg.evaluation",
    "GeometryError": "medseg.errors",
    "MedsegError": "medseg.errors",
    "ModelFileError": "medseg.errors",
    "Prediction": "medseg.inference.model.prediction",
    "Predictor": "medseg.inference.model.predictor",
    "QuietProgress": "medseg.progress",
    "RunConfig": "medseg.config.schema",
    "RunResult": "medseg.training.fit",
    "evaluate_cases": "medseg.evaluation",
    "fit": "medseg.training.fit",
    "infer_cases": "medseg.inference.batch.batch_inference",
    "load_config": "medseg.config.schema",
}

__all__ = [
    "ConfigError",
    "ConsoleProgress",
    "DataError",
    "Evaluation",
    "EvaluationOptions",
    "GeometryError",
    "MedsegError",
    "ModelFileError",
    "Prediction",
    "Predictor",
    "QuietProgress",
    "RunConfig",
    "RunResult",
    "evaluate_cases",
    "fit",
    "infer_cases",
    "load_config",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'medseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
