"""``Predictor``: one or several models, ready to turn scans into label maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from medseg.data.cases import Case
from medseg.data.preprocessing.pipeline import (
    PreparedImage,
    prepare_image,
    restore_orientation,
    with_foreground,
)
from medseg.data.scans import Scan
from medseg.data.tiled.preprocessed_image import PreprocessedTiledImage
from medseg.data.tiled.tiled_image import TiledImage
from medseg.errors import ConfigError, DataError
from medseg.geometry import Array
from medseg.inference.backends import BackendSetup
from medseg.inference.model.ensemble import mean_slabs
from medseg.inference.model.ensemble_member import ModelSource, Opening, open_member, refuse_difference
from medseg.inference.model.memory_fallback import Result, retry_with_less
from medseg.inference.model.model_file import LoadedModel
from medseg.inference.model.prediction import Prediction, PreparedScan, PreparedTiledImage, load_scan
from medseg.inference.options import InferenceConfig
from medseg.inference.sliding_window.array_allocation import room
from medseg.inference.sliding_window.finite_checks import finite_planes
from medseg.inference.sliding_window.options import Execution
from medseg.inference.sliding_window.prediction import (
    Decided,
    decide,
    gather,
    place,
    plane_probabilities,
    score_planes,
)
from medseg.inference.sliding_window.ring_accumulator import Planes, or_unseen
from medseg.inference.sliding_window.streaming_resample import Slab, regrid
from medseg.inference.sliding_window.window_plan import WindowPlan
from medseg.system.device import Precision, resolve_autocast_dtype, resolve_device

_AnyPrepared = PreparedScan | PreparedTiledImage

_ADVICE = (
    "Windows went through the network one at a time. Make them smaller (--set roi_size=[…]), leave out "
    "--probabilities, take fewer --workers, or use --device cpu or a machine with more memory."
)


class Predictor:
    """A trained network with its preprocessing and labels, from a run folder or a model file.

    Several files are an ensemble: their probabilities are averaged on the scan's grid. They find the same
    labels; their networks, spacings and windows may differ.

    ``model`` is the network itself where the file was trained with one given from Python; it stays as it is,
    each file's weights go into a copy. ``settings`` are settings of ``inference`` that are to be other than in
    the file; ``force`` allows mirrors and scales that the training did not use. ``backend`` is ``auto``,
    ``torch`` or ``openvino``, for each member; ``compiled`` goes through ``torch.compile``, on CUDA. ``say`` is
    told what computes, once it has.
    Raises: ModelFileError if a file is missing, damaged, needs a network that was not given, or finds other
    labels than the first; ConfigError for wrong settings, or a backend that cannot be used here.
    """

    def __init__(
        self,
        file: ModelSource | Sequence[ModelSource],
        *,
        model: nn.Module | None = None,
        device: str = "auto",
        amp: Precision = "auto",
        settings: Mapping[str, Any] | None = None,
        backend: str = "auto",
        compiled: bool = False,
        force: bool = False,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.device = resolve_device(device)
        self.dtype = resolve_autocast_dtype(amp, self.device)
        several = isinstance(file, Sequence) and not isinstance(file, str | LoadedModel)
        files: Sequence[ModelSource] = file if several else [file]  # pyright: ignore[reportAssignmentType]
        opening = Opening(
            BackendSetup(self.device, self.dtype, compiled), backend, settings or {}, model, force
        )
        self.members = [open_member(one, opening) for one in files]
        self._say = say
        self._said: set[str] = set()
        first = self.members[0]
        self.path, self.header = first.path, first.header
        for other in self.members[1:]:
            refuse_difference(first, other)
        digests = "".join(member.digest for member in self.members)
        self.digest = first.digest if len(self.members) == 1 else sha256(digests.encode()).hexdigest()

    @property
    def tiled(self) -> Predictor | None:
        """The predictor itself, which segments pictures larger than memory; None if it takes volumes."""
        header = self.header
        return self if header.spatial_dims == 2 and header.preprocess.slices is None else None

    def predict(
        self,
        source: Scan | Case | Path | str,
        *,
        probabilities: bool = False,
        foreground: Array | None = None,
    ) -> Prediction:
        """Segment one scan; a case may have its channels in several files.

        ``foreground``, (*S) on the scan's grid: windows in which it is nowhere true are background, unseen.
        Raises: DataError if the scan cannot be read or does not suit the model; ConfigError for a foreground
        and a model whose ``blend`` is ``exact``.
        """
        return self.run(self.prepare(source, foreground), probabilities=probabilities)

    def prepare(self, source: Scan | Case | Path | str, foreground: Array | None = None) -> PreparedScan:
        """Read a scan and bring it to the networks' grids; arguments and errors as ``predict``."""
        scan = load_scan(source)
        header = self.header
        slices = header.preprocess.slices
        if scan.spatial_dims != (3 if slices is not None else header.spatial_dims):
            wanted = "pictures" if header.spatial_dims == 2 and slices is None else "volumes"
            raise DataError(f"{scan.path}: a {scan.kind}; the model {self.path.name} takes {wanted}")
        prepared = [
            prepare_image(scan, h.preprocess, h.channels, keep_raw=_skips(h.inference))
            for h in (member.header for member in self.members)
        ]
        if foreground is not None:
            if any(member.reach for member in self.members):
                raise ConfigError("inference.blend=exact: leaves no windows out; a foreground needs gaussian")
            prepared = [
                with_foreground(one, foreground, scan, member.header.preprocess)
                for one, member in zip(prepared, self.members, strict=True)
            ]
        return PreparedScan(scan, tuple(prepared))

    def prepare_tiled(self, image: TiledImage) -> PreparedTiledImage:
        """Prepare a picture that stays in its file; errors as :class:`PreprocessedTiledImage`."""
        headers = [member.header for member in self.members]
        return PreparedTiledImage(
            image, tuple(PreprocessedTiledImage(image, h.preprocess, h.channels) for h in headers)
        )

    def run(
        self, ready: PreparedScan, *, probabilities: bool = False, scratch: Path | None = None
    ) -> Prediction:
        """Segment a prepared scan; where memory runs out, again with less (:meth:`Execution.reduced`).

        Probabilities that are too large for the memory lie in a file without a name in the folder ``scratch``
        (none: the system's for such files) for as long as they are used.
        Raises: OutOfMemoryError if there is not enough memory all the same; OSError if there is no room on the
        disk.
        """

        def attempt(execution: Execution) -> Prediction:
            whole = (self.header.labels.num_classes, *ready.inputs[0].target_shape)
            native = room(whole, scratch) if probabilities else None
            return self._run(ready, native, execution)

        return self.with_less_memory(attempt)

    def with_less_memory(self, attempt: Callable[[Execution], Result]) -> Result:
        """What ``attempt`` returns, tried again with less where memory runs out.

        Raises: OutOfMemoryError if there is not enough memory all the same.
        """
        batch_size = max(member.header.inference.batch_size for member in self.members)
        result = retry_with_less(attempt, Execution(self.device, batch_size), _ADVICE)
        self._tell()
        return result

    def _tell(self) -> None:
        """Say what computes, where that has not been said."""
        for number, member in enumerate(self.members, start=1):
            of = f"model {number}: " if len(self.members) > 1 else ""
            line = f"{of}{member.backend.info}"
            if line not in self._said:
                self._said.add(line)
                self._say(line)

    def _run(self, ready: PreparedScan, native: Array | None, execution: Execution) -> Prediction:
        """``native`` (K, *S) is where the probabilities go, if they are asked for."""
        scan, prepared, header = ready.scan, ready.inputs[0], self.header
        pieces = self.segment_chunks(ready, execution, probabilities=native is not None)
        if native is not None:
            pieces = _kept(pieces, native)
        hard = gather(pieces, prepared.target_shape, lambda one: one.hard)
        label_map = self._values(hard, prepared)
        label_map = restore_orientation(label_map[None], prepared, scan, header.preprocess)[0]
        if native is not None:
            native = restore_orientation(native, prepared, scan, header.preprocess)
        return Prediction(np.ascontiguousarray(label_map), native, scan, execution.notes)

    def segment_chunks(
        self, ready: _AnyPrepared, execution: Execution, *, probabilities: bool
    ) -> Iterator[Decided]:
        """What is found, piece by piece in order, pictures from the top down; together the whole image.

        Raises: NumericalError if a network's logits are NaN or infinite.
        """
        activation, along = self.header.labels.activation, self._axis(ready)
        batch, accumulate_on = execution.batch_size, execution.accumulator_device
        if len(self.members) == 1 and not ready.inputs[0].resampled and not probabilities:
            strips = isinstance(ready, PreparedScan)  # one model on the scan's grid
            for one in self._planes(0, ready, batch, accumulate_on, along, strips):
                yield Decided(one.start, one.axis, decide(one.sums, activation), lines=one.lines)
            return
        members = range(len(self.members))
        for one in mean_slabs([self._probabilities(i, ready, batch, accumulate_on, along) for i in members]):
            hard = decide(one.scores, activation, 0.5)
            yield Decided(one.start, one.axis, hard, one.scores if probabilities else None)

    def _values(self, hard: Array, prepared: PreparedImage) -> Array:
        """Decisions (1 or R, *S) after the steps on components, as one map of file values."""
        labels, steps = self.header.labels, self.header.inference.postprocess
        voxel = float(np.prod(prepared.reoriented.spacing))
        if labels.regions:
            return labels.paint(steps.of_regions(hard, labels.class_names, voxel) if steps.names else hard)
        return labels.decode(steps.of_classes(hard[0], labels.class_names, voxel))

    def _planes(
        self,
        index: int,
        ready: _AnyPrepared,
        batch: int,
        accumulate_on: torch.device,
        along: int,
        strips: bool = False,
    ) -> Iterator[Planes]:
        """One model's scores on its own grid; in strips, where they may be and that takes less memory."""
        member, prepared = self.members[index], ready.inputs[index]
        header = member.header
        settings = header.inference.model_copy(update={"batch_size": min(batch, header.inference.batch_size)})
        image = prepared if isinstance(prepared, PreprocessedTiledImage) else prepared.array
        planes = score_planes(
            member.backend.predict, image, settings, device=self.device,
            slices=header.preprocess.slices, sums_on=accumulate_on, along=along,
            exchange=header.labels.mirrored_classes,
            inside=prepared.foreground_mask(settings.skip_below, settings.skip_above),
            reach=member.reach, strips=strips,
        )  # fmt: skip
        planes = finite_planes(planes, ready.path, member.backend)
        return or_unseen(planes, header.labels.num_classes, image.shape[1:], along)

    def _probabilities(
        self,
        index: int,
        ready: _AnyPrepared,
        batch: int,
        accumulate_on: torch.device,
        along: int,
    ) -> Iterator[Slab]:
        """One model's probabilities on the scan's grid, its axes still those of ``PreparedImage``."""
        prepared = ready.inputs[index]
        planes = self._planes(index, ready, batch, accumulate_on, along)
        activation = self.header.labels.activation
        slabs = (Slab(one.start, one.axis, plane_probabilities(one, activation)) for one in planes)
        if isinstance(prepared, PreprocessedTiledImage) or not prepared.resampled:
            return slabs
        return regrid(slabs, prepared.array.shape[1:], prepared.target_shape)

    def _axis(self, ready: _AnyPrepared) -> int:
        """The axis that all models' planes are streamed along: of pictures the rows, as large ones are written,
        the first one where a model's tiles are exact, else the first model's best.
        """
        if isinstance(ready, PreparedTiledImage) or ready.scan.kind == "picture":
            return 0
        if any(member.reach is not None for member in self.members):
            return 0
        shape, settings = ready.inputs[0].array.shape[1:], self.header.inference
        size = settings.roi_size or shape
        if len(size) < len(shape):
            return 0  # slice by slice
        return WindowPlan(shape, size, settings.overlap).axis


def _kept(pieces: Iterator[Decided], whole: Array) -> Iterator[Decided]:
    """The same pieces, their probabilities written into the whole image's on the way."""
    for one in pieces:
        assert one.scores is not None
        place(whole, one.start, one.axis, one.scores.cpu().numpy())
        yield one


def _skips(settings: InferenceConfig) -> bool:
    return settings.skip_below is not None or settings.skip_above is not None
