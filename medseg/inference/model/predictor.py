"""``Predictor``: segments scans with one model or an ensemble."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch

from medseg.data.cases import Case
from medseg.data.preprocessing.masks import ImageWithMasks
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
from medseg.geometry import Array, Grid
from medseg.inference.backends import BackendSetup
from medseg.inference.model.array_allocation import allocate_or_memmap
from medseg.inference.model.cascade import with_masks
from medseg.inference.model.ensemble.mean import average_chunks
from medseg.inference.model.ensemble.member import (
    MemberOptions,
    ModelSource,
    OwnNetwork,
    check_no_prompts,
    check_same_task,
    load_members,
)
from medseg.inference.model.instance_prediction import InstanceDecoder, detect_instances, predict_instances
from medseg.inference.model.label_values import class_values, label_values, streaming_axis
from medseg.inference.model.memory_fallback import Result, retry_with_less
from medseg.inference.model.prediction import Prediction, PreparedScan, PreparedTiledImage, load_scan
from medseg.inference.model.protocols import ExecutionOptions
from medseg.inference.shift.comparison import ShiftReport, compare, measure_appearance, measure_prediction
from medseg.inference.shift.modality import check_modality
from medseg.inference.shift.rescale import ScaleChoice, estimate_scale, size_targets
from medseg.inference.sliding_window.finite_checks import check_chunks
from medseg.inference.sliding_window.options import Execution, SlidingWindowOptions
from medseg.inference.sliding_window.output_chunk import OutputChunk, SegmentedChunk, assemble, label_chunks
from medseg.inference.sliding_window.prediction import (
    class_probabilities,
    decide,
    decide_at,
    sliding_window_logits,
    zero_logits_if_empty,
)
from medseg.inference.sliding_window.streaming_resample import resample_chunks
from medseg.system.device import resolve_autocast_dtype, resolve_device

_LOGGER = logging.getLogger(__name__)

_AnyPrepared = PreparedScan | PreparedTiledImage

_MEMORY_HINT = (
    "Windows went through the network one at a time. Make them smaller (--set roi_size=[…]), leave out "
    "--probabilities, use fewer --workers, or use --device cpu or a machine with more memory."
)


class Predictor:
    """Segments scans with a trained network, its preprocessing and its labels.

    Several models are an ensemble: their probabilities are averaged on the scan's grid. They have the same
    labels; their networks, spacings and windows may differ. A cascade segments a scan with its first stage
    first. The backend is logged once it has been chosen.

    Args:
        source: a run folder, a model file or a loaded model; or several of them.
        model: the network of files that were trained with a network of your own, or a function of a
            :class:`medseg.task.Task` that builds it. Each file's weights are loaded into a copy.
        settings: settings of ``inference`` that replace those in the files.
        force: allow mirrored and scaled windows that the training did not use, and scans of another modality.
        execution: device, precision and backend, as :class:`ExecutionOptions`.

    Attributes:
        members: the models of the ensemble.
        header: the first model's header.
        digest: the model's digest; of an ensemble, the SHA-256 of its members' digests.

    Raises:
        ModelFileError: a file is missing or damaged, needs ``model``, or has other labels than the first.
        ConfigError: settings are invalid, or the backend or device is not available.
    """

    def __init__(
        self,
        source: ModelSource | Sequence[ModelSource],
        *,
        model: OwnNetwork | None = None,
        settings: Mapping[str, Any] | None = None,
        force: bool = False,
        **execution: Unpack[ExecutionOptions],
    ) -> None:
        self.device = resolve_device(execution.get("device", "auto"))
        self.dtype = resolve_autocast_dtype(execution.get("amp", "auto"), self.device)
        setup = BackendSetup(self.device, self.dtype, execution.get("compiled", False))
        options = MemberOptions(setup, execution.get("backend", "auto"), settings or {}, model, force)
        self.members = load_members(source, options)
        self._force = force
        self._logged: set[str] = set()
        first = self.members[0]
        self.path, self.header = first.path, first.header
        check_no_prompts(self.members)
        for other in self.members[1:]:
            check_same_task(first, other)
        self._fingerprint = next((m.header.fingerprint for m in self.members if m.header.fingerprint), None)
        self._first_stages = [
            Predictor(member.first_stages, force=force, **execution) if member.first_stages else None
            for member in self.members
        ]
        digests = "".join(member.digest for member in self.members)
        self.digest = first.digest if len(self.members) == 1 else sha256(digests.encode()).hexdigest()

    @property
    def tiled(self) -> Predictor | None:
        """The predictor itself, which segments pictures larger than memory; None if it takes volumes."""
        header = self.header
        if header.instances is not None and header.head is None:
            return None
        return self if header.spatial_dims == 2 and header.preprocess.slices is None else None

    def predict(
        self,
        source: Scan | Case | Path | str | Array,
        *,
        spacing: tuple[float, ...] | None = None,
        probabilities: bool = False,
        foreground: Array | None = None,
    ) -> Prediction:
        """Segment one scan.

        Args:
            source: a file, a scan, a case, whose channels may lie in several files, or an array (*S), (C, *S).
            spacing: mm between the voxels of an array along each axis; volumes need it, pictures have 1.
            probabilities: also return the probabilities of each class.
            foreground: (*S) on the scan's grid; windows where it is nowhere true are labeled background.

        Raises:
            DataError: the scan cannot be read or does not suit the model.
            ConfigError: a foreground was given, and the model's ``blend`` is ``exact``.
        """
        scan = load_scan(source, self.members[0].scan_dims, spacing)
        return self.run(self.prepare(scan, foreground), probabilities=probabilities)

    def prepare(self, source: Scan | Case | Path | str, foreground: Array | None = None) -> PreparedScan:
        """Read a scan and preprocess it for each member; arguments and errors as :meth:`predict`."""
        scan = load_scan(source)
        self.members[0].check_dimensions(scan)
        if self._fingerprint is not None and not self._force:
            check_modality(scan, self._fingerprint)
        if foreground is not None and any(member.receptive_field for member in self.members):
            raise ConfigError(
                "inference.blend=exact skips no windows; a foreground was given",
                hint="Use inference.blend=gaussian.",
            )
        rescale = self.header.inference.rescale
        scale = ScaleChoice(rescale, rescale) if isinstance(rescale, float) else None
        return self._prepare(scan, foreground, scale)

    def _prepare(self, scan: Scan, foreground: Array | None, scale: ScaleChoice | None) -> PreparedScan:
        """Preprocess a scan for each member, pictures at a scale."""
        factor = 1.0 if scale is None else scale.factor
        prepared = [
            prepare_image(scan, h.preprocess, h.channels, keep_raw=h.inference.skips_windows, factor=factor)
            for h in (member.header for member in self.members)
        ]
        if foreground is not None:
            prepared = [
                with_foreground(one, foreground, scan, member.header.preprocess)
                for one, member in zip(prepared, self.members, strict=True)
            ]
        return PreparedScan(scan, tuple(prepared), foreground, scale)

    def prepare_tiled(self, image: TiledImage) -> PreparedTiledImage:
        """Prepare a picture that stays in its file; errors as :class:`PreprocessedTiledImage`.

        Raises:
            DataError: ``inference.rescale`` is set, which needs the whole picture in memory.
        """
        if self.header.inference.rescale is not None:
            raise DataError(
                f"{image.path}: is read window by window, but rescaling needs the whole picture in memory",
                hint="Use --set large_above=1e6, or leave --rescale out.",
                path=image.path,
            )
        headers = [member.header for member in self.members]
        return PreparedTiledImage(
            image, tuple(PreprocessedTiledImage(image, h.preprocess, h.channels) for h in headers)
        )

    def run(
        self, prepared: PreparedScan, *, probabilities: bool = False, scratch: Path | None = None
    ) -> Prediction:
        """Segment a prepared scan; where memory runs out, again with less (:meth:`Execution.reduced`).

        Args:
            prepared: from :meth:`prepare`.
            probabilities: also return the probabilities of each class.
            scratch: folder of a temporary file for probabilities that are too large for memory; the system's
                folder if None.

        Raises:
            OutOfMemoryError: the smallest execution runs out of memory.
            OSError: the disk has too little space for the probabilities.
            NumericalError: a network's logits are NaN or infinite.
        """

        if self.header.inference.rescale == "auto" and prepared.scale is None:
            scale = self.with_less_memory(lambda execution: self._estimate_scale(prepared, execution))
            prepared = self._prepare(prepared.scan, prepared.foreground, scale)
        prepared = self._add_masks(prepared)

        if self.header.instances is not None:
            if probabilities:
                raise ConfigError("probabilities: not available from a model that tells objects apart")
            return self.with_less_memory(lambda execution: self._run_instances(prepared, execution))

        def attempt(execution: Execution) -> Prediction:
            shape = (self.header.labels.num_classes, *prepared.inputs[0].target_shape)
            whole = allocate_or_memmap(shape, scratch) if probabilities else None
            return self._run(prepared, whole, execution)

        return self.with_less_memory(attempt)

    def _add_masks(self, prepared: PreparedScan) -> PreparedScan:
        """Segment a scan with the first stages of cascades, and add the results to the inputs."""
        inputs = [
            image
            if first is None
            else with_masks(image, first.predict(prepared.scan, foreground=prepared.foreground), member.header)
            for image, first, member in zip(prepared.inputs, self._first_stages, self.members, strict=True)
        ]
        return replace(prepared, inputs=tuple(inputs))

    def with_less_memory(self, attempt: Callable[[Execution], Result]) -> Result:
        """Call ``attempt``, again with a reduced execution where memory runs out.

        Raises:
            OutOfMemoryError: the smallest execution runs out of memory.
        """
        batch_size = max(member.header.inference.batch_size for member in self.members)
        result = retry_with_less(attempt, Execution(self.device, batch_size), _MEMORY_HINT)
        self._log_backends()
        return result

    def _log_backends(self) -> None:
        """Log each backend once; it is chosen, or checked, with the first window."""
        for number, member in enumerate(self.members, start=1):
            prefix = f"model {number}: " if len(self.members) > 1 else ""
            line = f"{prefix}{member.backend.info}"
            if line not in self._logged:
                self._logged.add(line)
                _LOGGER.info("backend: %s", line)

    def _run(self, prepared: PreparedScan, probabilities: Array | None, execution: Execution) -> Prediction:
        """Segment a scan; ``probabilities`` (K, *S), if requested, are written into that array."""
        scan, first, preprocess = prepared.scan, prepared.inputs[0], self.header.preprocess
        chunks = self.segment_chunks(prepared, execution, probabilities=probabilities is not None)
        labels = assemble(label_chunks(chunks, probabilities), first.target_shape)
        label_map = label_values(self.header, labels, prepared)
        label_map = restore_orientation(label_map[None], first, scan, preprocess)[0]
        if probabilities is not None:
            probabilities = restore_orientation(probabilities, first, scan, preprocess)
        label_map = np.ascontiguousarray(label_map)
        shift = self._compare(scan, label_map, prepared.scale)
        return Prediction(label_map, probabilities, scan, execution.notes, shift, prepared.scale)

    def instance_chunks(
        self, prepared: _AnyPrepared, execution: Execution
    ) -> tuple[Iterator[OutputChunk], int]:
        """Return the averaged output of all members, classes and maps, and its streaming axis."""
        axis = streaming_axis(self.members, prepared)
        members = [
            self._probabilities(index, prepared, self._window_options(index, axis), execution)
            for index in range(len(self.members))
        ]
        return average_chunks(members), axis

    def _run_instances(self, prepared: PreparedScan, execution: Execution) -> Prediction:
        """Decode the objects of a scan."""
        scan, scale = prepared.scan, prepared.scale
        if self.header.head is None:
            found = detect_instances(self.members, prepared, self.dtype)
        else:
            found = predict_instances(self.header, prepared, *self.instance_chunks(prepared, execution))
        label_map = class_values(found, self.header.labels.output_values)
        shift = self._compare(scan, label_map, scale, found.label_map())
        return Prediction(label_map, None, scan, execution.notes, shift, scale, found)

    def _compare(
        self, scan: Scan, label_map: Array, scale: ScaleChoice | None, objects: Array | None = None
    ) -> ShiftReport | None:
        """Compare a scan and its label map with the training cases."""
        if self._fingerprint is None:
            return None
        factor = None if scale is None or scale.factor == 1 else scale.factor
        values = measure_prediction(scan, label_map, self.header.labels, factor, objects)
        raw = self.header.preprocess.normalize.voxelwise or scan.kind == "picture"
        return compare(values, self._fingerprint, raw=raw, rescaled=scale is not None)

    def _estimate_scale(self, prepared: PreparedScan, execution: Execution) -> ScaleChoice:
        """Estimate the scale at which a picture shows objects of the training's size, with the first member."""
        options = self._window_options(0, 0)

        def predict(part: Array) -> torch.Tensor:
            grid = Grid.picture(*part.shape[1:])
            trial = PreparedScan(prepared.scan, (PreparedImage(part, grid, grid),))
            chunks = self._probabilities(
                0, trial, replace(options, overlap=min(options.overlap, 0.25)), execution
            )
            return torch.as_tensor(assemble(chunks, grid.shape))

        assert self._fingerprint is not None
        header, targets = self.header, size_targets(self._fingerprint, measure_appearance(prepared.scan))
        restandardize = not header.preprocess.normalize.voxelwise
        image = prepared.inputs[0].array
        separate = None if header.head is None else InstanceDecoder(header).numbers
        return estimate_scale(
            image, predict, header.labels, targets, restandardize=restandardize, separate=separate
        )

    def segment_chunks(
        self, prepared: _AnyPrepared, execution: Execution, *, probabilities: bool
    ) -> Iterator[SegmentedChunk]:
        """Yield the segmentation chunk by chunk in order, pictures from the top down.

        Raises:
            NumericalError: a network's logits are NaN or infinite.
        """
        activation, axis = self.header.labels.activation, streaming_axis(self.members, prepared)
        thresholds = self.header.thresholds
        plain = not prepared.inputs[0].resampled and not probabilities and thresholds is None
        if len(self.members) == 1 and plain:
            options = replace(
                self._window_options(0, axis),
                whole_planes=isinstance(prepared, PreparedTiledImage),
                normalize=False,
            )
            for chunk in self._logits(0, prepared, options, execution):
                yield SegmentedChunk(chunk.with_tensor(decide(chunk.tensor, activation)))
            return
        members = [
            self._probabilities(index, prepared, self._window_options(index, axis), execution)
            for index in range(len(self.members))
        ]
        for chunk in average_chunks(members):
            labels = chunk.with_tensor(decide_at(chunk.tensor, activation, thresholds))
            yield SegmentedChunk(labels, chunk if probabilities else None)

    def _window_options(self, index: int, axis: int) -> SlidingWindowOptions:
        """Return the window of a member, streamed along ``axis``."""
        member = self.members[index]
        options = SlidingWindowOptions.from_config(
            member.header.inference,
            mirrored_channels=member.header.labels.mirrored_classes,
            mirrored_inputs=member.header.mirrored_inputs,
            slices=member.header.preprocess.slices,
            receptive_field=member.receptive_field,
            head=member.header.head,
        )
        return replace(options, streaming_axis=axis)

    def _logits(
        self, index: int, prepared: _AnyPrepared, options: SlidingWindowOptions, execution: Execution
    ) -> Iterator[OutputChunk]:
        """Yield one member's logits on its own grid."""
        member, inputs = self.members[index], prepared.inputs[index]
        settings = member.header.inference
        execution = replace(execution, batch_size=min(execution.batch_size, settings.batch_size))
        image = inputs if isinstance(inputs, PreprocessedTiledImage) else inputs.array
        if not isinstance(inputs, PreprocessedTiledImage) and inputs.masks is not None:
            image = ImageWithMasks(inputs.array, inputs.masks, member.header.masks)
        keep = inputs.foreground_mask(settings.skip_below, settings.skip_above)
        chunks = sliding_window_logits(member.backend.predict, image, options, execution, keep=keep)
        chunks = check_chunks(chunks, prepared.path, member.backend)
        axis = options.streaming_axis or 0
        return zero_logits_if_empty(chunks, member.header.task.num_classes, image.shape[1:], axis)

    def _probabilities(
        self, index: int, prepared: _AnyPrepared, options: SlidingWindowOptions, execution: Execution
    ) -> Iterator[OutputChunk]:
        """Yield one member's probabilities on the scan's grid, in the axis order of ``PreparedImage``."""
        inputs, labels = prepared.inputs[index], self.header.labels
        logits = self._logits(index, prepared, options, execution)
        chunks = (class_probabilities(chunk, labels.activation, labels.num_classes) for chunk in logits)
        if isinstance(inputs, PreprocessedTiledImage) or not inputs.resampled:
            return chunks
        return resample_chunks(chunks, inputs.array.shape[1:], inputs.target_shape)
