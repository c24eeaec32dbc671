"""Load models by path: model files of medseg and models of nnU-Net."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.errors import ConfigError
from medseg.inference.batch.distributed import PredictorSpec
from medseg.inference.model.protocols import Segmenter
from medseg.interop.nnunet.file import is_nnunet_file
from medseg.interop.nnunet.folder import is_nnunet_folder
from medseg.interop.nnunet.predict import NnunetPredictor


@dataclass(frozen=True)
class SegmenterSpec(PredictorSpec):
    """Arguments to load medseg models, which are averaged, or one nnU-Net model, as a folder or imported."""

    def build(self) -> Segmenter[Any]:
        """Load the models and move them to their device.

        Raises:
            ModelFileError: a file is missing or damaged.
            ConfigError: the settings do not suit the model, or an nnU-Net model is combined with others.
        """
        foreign = [
            model for model in map(Path, self.models) if is_nnunet_folder(model) or is_nnunet_file(model)
        ]
        if not foreign:
            return super().build()
        if self.network is not None:
            raise ConfigError(f"--network is for models of medseg; {foreign[0]} is an nnU-Net model")
        if len(self.models) > 1:
            raise ConfigError(
                f"{foreign[0]}: an nnU-Net model cannot be averaged with other models",
                hint="Give one --model; an nnU-Net model averages its own folds.",
            )
        return NnunetPredictor(
            foreign[0], device=self.device, amp=self.amp, settings=self.settings, backend=self.backend,
            compiled=self.compiled, force=self.force,
        )  # fmt: skip
