"""Probabilities of out-of-fold predictions, stored in few bytes for the choice of thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from medseg.data.scans import Scan
from medseg.files import write_atomic
from medseg.geometry import Array
from medseg.inference.model.ensemble.member import EnsembleMember
from medseg.inference.model.model_file import ModelHeader
from medseg.inference.model.prediction import Prediction, PreparedScan
from medseg.inference.model.predictor import Predictor

LEVELS = 200
"""Steps from 0 to 1 of stored probabilities; multiples of 0.05 are exact limits."""


@dataclass(frozen=True)
class ProbabilityRecorder:
    """A segmenter that stores the probabilities of the labels that can have a threshold.

    Attributes:
        predictor: the model.
        cases: file of the image → id of the case.
        folder: of the stored probabilities.
    """

    predictor: Predictor
    cases: Mapping[Path, str]
    folder: Path

    @property
    def header(self) -> ModelHeader:
        """Header of the first member."""
        return self.predictor.header

    @property
    def members(self) -> Sequence[EnsembleMember]:
        """Members of the ensemble."""
        return self.predictor.members

    @property
    def digest(self) -> str:
        """Digest of the model."""
        return self.predictor.digest

    @property
    def device(self) -> torch.device:
        """Device that computes."""
        return self.predictor.device

    @property
    def dtype(self) -> torch.dtype | None:
        """Precision; None for float32."""
        return self.predictor.dtype

    @property
    def tiled(self) -> Predictor | None:
        """The model of pictures larger than memory, whose probabilities are not stored."""
        return self.predictor.tiled

    def prepare(self, source: Scan, /, foreground: Array | None = None) -> PreparedScan:
        """Bring a scan to the network's grid."""
        return self.predictor.prepare(source, foreground)

    def run(
        self, prepared: PreparedScan, /, *, probabilities: bool = False, scratch: Path | None = None
    ) -> Prediction:
        """Segment a scan and store its probabilities."""
        prediction = self.predictor.run(prepared, probabilities=True, scratch=scratch)
        case = self.cases.get(prepared.scan.path)
        if case is not None and prediction.probabilities is not None:
            write_levels(stored_file(self.folder, case), prediction.probabilities, self.header)
        return prediction if probabilities else replace(prediction, probabilities=None)


def stored_file(folder: Path, case: str) -> Path:
    """Return the file with the probabilities of a case."""
    return folder / f"{case}.npz"


def write_levels(path: Path, probabilities: Array, header: ModelHeader) -> None:
    """Store the probabilities (K, *S) of the labels that can have a threshold, rounded down to 1/200."""
    names = header.labels.class_names
    chosen = [names.index(name) for name in header.thresholded]
    levels = np.stack([(probabilities[i] * LEVELS + 1e-3).astype(np.uint8) for i in chosen])
    with write_atomic(path) as temporary:
        np.savez_compressed(temporary, levels=levels)


def read_levels(path: Path) -> NDArray[np.uint8]:
    """Read stored probabilities (labels, *S) in steps of 1/200."""
    with np.load(path) as content:
        return content["levels"]
