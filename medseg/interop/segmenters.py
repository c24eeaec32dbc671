"""A model by its path, whoever trained it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medseg.errors import ConfigError
from medseg.inference.predictor import ModelSource, Predictor
from medseg.inference.segmenter import Segmenter
from medseg.interop.nnunet.file import is_file
from medseg.interop.nnunet.folder import is_folder
from medseg.interop.nnunet.predict import NnunetPredictor


def load_segmenter(
    models: Sequence[ModelSource], *, device: str = "auto", settings: Mapping[str, Any] | None = None
) -> Segmenter:
    """medseg's own models (several are averaged), or one of nnU-Net's: its trained folder, or imported.

    Raises: ModelFileError and ConfigError as ``Predictor`` and ``NnunetPredictor``; ConfigError if an nnU-Net
    does not stand alone.
    """
    foreign = [m for m in models if isinstance(m, Path | str) and (is_folder(Path(m)) or is_file(Path(m)))]
    if not foreign:
        return Predictor(list(models), device=device, settings=settings)
    if len(models) > 1:
        raise ConfigError(f"{foreign[0]}: an nnU-Net averages its own folds and cannot be averaged with others")
    return NnunetPredictor(foreign[0], device=device, settings=settings)
