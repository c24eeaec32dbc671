"""``Segmenter``: what the machinery of many cases needs of a model, whoever trained it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch

from medseg.data.labels.reader import LabelReader
from medseg.data.labels.schema import LabelSchema
from medseg.data.scans import Scan
from medseg.geometry import Array
from medseg.inference.backends import Backend, Facts
from medseg.inference.model.predictor import Prediction, Ready
from medseg.inference.options import InferenceConfig


class Described(Protocol):
    """What a model finds, how label files are read beside it, and how it goes through a scan."""

    @property
    def labels(self) -> LabelSchema: ...
    @property
    def targets(self) -> LabelReader: ...
    @property
    def inference(self) -> InferenceConfig: ...


class Part(Protocol):
    """A part of a model: its digest and files, its settings (one of each stage), and what computes its scores.

    ``planned`` is what was to compute before any window did; it is the same for every result.
    """

    @property
    def digest(self) -> str: ...
    @property
    def backend(self) -> Backend: ...
    @property
    def planned(self) -> Facts: ...
    @property
    def settings(self) -> tuple[InferenceConfig, ...]: ...
    @property
    def files(self) -> tuple[Path, ...]: ...


class Segmenter(Protocol):
    """A model on its device; ``prepare`` and ``run`` may go on in two threads, with different scans."""

    @property
    def header(self) -> Described: ...
    @property
    def members(self) -> Sequence[Part]: ...
    @property
    def digest(self) -> str: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype | None: ...

    def prepare(self, source: Scan, foreground: Array | None = None) -> Ready:
        """Bring a scan to the network's grid; windows without ``foreground`` (*S) are to be left out."""
        ...

    def run(self, ready: Ready, *, probabilities: bool = False, scratch: Path | None = None) -> Prediction:
        """Segment what was prepared; probabilities that are too large for the memory lie in ``scratch``."""
        ...
