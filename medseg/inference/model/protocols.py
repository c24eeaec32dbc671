"""Protocols for models used in batch inference.

Batch inference needs two steps of a model, ``prepare`` (read and preprocess, on a reading thread) and ``run``
(the network). What passes between them is the model's own business: each model has its own prepared type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypedDict, TypeVar

import torch

from medseg.data.labels.reader import LabelReader
from medseg.data.labels.schema import LabelSchema
from medseg.data.scans import Scan
from medseg.data.tiled.tiled_image import TiledImage
from medseg.geometry import Array
from medseg.inference.backends import Backend, BackendInfo
from medseg.inference.model.model_file import ModelHeader
from medseg.inference.model.prediction import Prediction, PreparedTiledImage
from medseg.inference.options import InferenceConfig
from medseg.inference.sliding_window.options import Execution
from medseg.inference.sliding_window.output_chunk import OutputChunk, SegmentedChunk
from medseg.instances.options import InstanceTask
from medseg.system.device import Precision

Result = TypeVar("Result")


class ExecutionOptions(TypedDict, total=False):
    """Keyword arguments for where and how a predictor computes.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        amp: precision of convolutions and products: ``auto``, ``bf16``, ``fp16`` or ``off``.
        backend: ``auto``, ``torch`` or ``openvino``.
        compiled: use ``torch.compile``, on CUDA.
    """

    device: str
    amp: Precision
    backend: str
    compiled: bool


class ModelDescription(Protocol):
    """A model's labels, how label files are read beside it, its inference settings, and how it tells objects
    apart (None if it does not).
    """

    @property
    def labels(self) -> LabelSchema: ...
    @property
    def label_reader(self) -> LabelReader: ...
    @property
    def inference(self) -> InferenceConfig: ...
    @property
    def instances(self) -> InstanceTask | None: ...


class MemberDescription(Protocol):
    """One ensemble member, for the record.

    Attributes:
        digest: SHA-256 of header and weights.
        backend: the backend that computes its logits.
        planned_backend: the backend as chosen before the first window; the same for every result.
        settings: inference settings of each stage.
        stage_digests: SHA-256 of each model of the first stage of a cascade.
        files: the files it was read from.
    """

    @property
    def digest(self) -> str: ...
    @property
    def backend(self) -> Backend: ...
    @property
    def planned_backend(self) -> BackendInfo: ...
    @property
    def settings(self) -> tuple[InferenceConfig, ...]: ...
    @property
    def stage_digests(self) -> tuple[str, ...]: ...
    @property
    def files(self) -> tuple[Path, ...]: ...


class PreparedCase(Protocol):
    """A case that is ready for the network; further content is the model's own."""

    @property
    def scan(self) -> Scan: ...


PreparedT = TypeVar("PreparedT", bound=PreparedCase)


class TiledSegmenter(Protocol):
    """A model that segments pictures larger than memory, window by window."""

    @property
    def header(self) -> ModelHeader: ...
    @property
    def members(self) -> Sequence[MemberDescription]: ...

    def prepare_tiled(self, image: TiledImage, /) -> PreparedTiledImage:
        """Prepare a picture that stays in its file."""
        ...

    def segment_chunks(
        self, prepared: PreparedTiledImage, /, execution: Execution, *, probabilities: bool
    ) -> Iterator[SegmentedChunk]:
        """Yield the segmentation in chunks of rows, from the top down."""
        ...

    def instance_chunks(
        self, prepared: PreparedTiledImage, /, execution: Execution
    ) -> tuple[Iterator[OutputChunk], int]:
        """Return the output of a model that tells objects apart, in whole rows, and its streaming axis."""
        ...

    def with_less_memory(self, attempt: Callable[[Execution], Result]) -> Result:
        """Call ``attempt``, again with a reduced execution where memory runs out."""
        ...


class Segmenter(Protocol[PreparedT]):
    """A model on its device, generic in what ``prepare`` passes to ``run``.

    ``prepare`` and ``run`` may be called from two threads at once, with different cases.

    Attributes:
        header: labels and settings.
        members: the ensemble's members; at least one.
        digest: identifies the model: SHA-256 of all members.
        device, dtype: where and in which precision it computes; None is float32.
        tiled: segments pictures larger than memory; None if the model cannot.
    """

    @property
    def header(self) -> ModelDescription: ...
    @property
    def members(self) -> Sequence[MemberDescription]: ...
    @property
    def digest(self) -> str: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype | None: ...
    @property
    def tiled(self) -> TiledSegmenter | None: ...

    def prepare(self, source: Scan, /, foreground: Array | None = None) -> PreparedT:
        """Bring a scan to the network's grid; windows outside ``foreground`` (*S) are skipped."""
        ...

    def run(
        self, prepared: PreparedT, /, *, probabilities: bool = False, scratch: Path | None = None
    ) -> Prediction:
        """Segment a prepared case; probabilities larger than memory are kept in a file in ``scratch``."""
        ...


AnySegmenter = Segmenter[Any]
"""A model of which only the description is used, not its prepared cases."""
