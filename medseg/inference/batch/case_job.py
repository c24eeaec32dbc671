"""One case of a batch: read, segmented and written in three steps that may run in different threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeVar

from medseg.data.cases import Case
from medseg.data.io.multichannel import describe_constant_image, read_image
from medseg.data.io.path_selectors import split_selector
from medseg.data.io.readers import output_suffix, reader_for
from medseg.data.labels.reader import read_foreground
from medseg.data.tiled.tiled_image import TiledImage
from medseg.dicom.source_series import SegmentAlgorithm, planes_on_slices, read_source_series
from medseg.errors import (
    ConfigError,
    ConversionError,
    DataError,
    DiskFullError,
    ExistingFileError,
    MedsegError,
    OtherResultError,
    OutOfMemoryError,
)
from medseg.files import describe_full_disk, is_disk_full, write_atomic
from medseg.inference.batch.options import BatchOptions
from medseg.inference.batch.outputs.case_files import CaseFiles
from medseg.inference.batch.outputs.dicom_objects import (
    build_objects,
    instance_segments,
    label_segments,
    object_path,
)
from medseg.inference.batch.outputs.files import CaseOutcome, write_overlays, write_probabilities
from medseg.inference.batch.outputs.instance_files import write_instance_files
from medseg.inference.batch.outputs.provenance import result_recipe
from medseg.inference.batch.tiled_images import (
    OUTPUT_SUFFIX,
    TiledOutputs,
    describe_tiled_image,
    open_tiled_image,
    segment_tiled,
)
from medseg.inference.model.prediction import Prediction, PreparedTiledImage
from medseg.inference.model.protocols import PreparedT, Segmenter, TiledSegmenter
from medseg.report.palette import value_palette
from medseg.system.allocator import is_out_of_memory

WriteStep = Callable[[], CaseOutcome]
"""Writes the outputs of a case."""
ComputeStep = Callable[[], WriteStep]
"""Runs the network on a case that was read."""

_Result = TypeVar("_Result")


class CaseJob(Generic[PreparedT]):
    """One case on its way through reading, network and writing.

    Each step returns the next one, or the outcome if the case has ended: it failed, or its result exists. The
    batch decides what remains of the earlier result of a failed case (``outputs/withdrawal.py``).

    Args:
        segmenter: the model.
        case: the case.
        output: output folder, held by ``open_output``.
        options: outputs and the handling of existing results.
    """

    def __init__(
        self, segmenter: Segmenter[PreparedT], case: Case, output: Path, options: BatchOptions
    ) -> None:
        self.segmenter, self.case, self.output, self.options = segmenter, case, output, options
        self._stopwatch = _Stopwatch()

    def run(self) -> CaseOutcome:
        """Run all steps in turn."""
        return self.write(self.compute(self.read()))

    def read(self) -> ComputeStep | CaseOutcome:
        """Read and preprocess the case."""
        return self._attempt(self._read)

    def compute(self, step: ComputeStep | CaseOutcome) -> WriteStep | CaseOutcome:
        """Run the network, unless the case has ended."""
        return step if isinstance(step, CaseOutcome) else self._attempt(step)

    def write(self, step: WriteStep | CaseOutcome) -> CaseOutcome:
        """Write the outputs, unless the case has ended."""
        return step if isinstance(step, CaseOutcome) else self._attempt(step)

    def _attempt(self, step: Callable[[], _Result]) -> _Result | CaseOutcome:
        """Run one step; an error becomes the outcome of the case.

        Raises: ConversionError, ConfigError and DiskFullError, which every other case would end with, too.
        """
        try:
            with self._stopwatch:
                return step()
        except (ConversionError, ConfigError):
            raise
        except (MedsegError, OSError, ValueError, RuntimeError, MemoryError) as error:
            # border to readers, networks and writers of many libraries: other cases go on
            if is_disk_full(error):
                raise _disk_full_error(error, self.output) from error
            return self._failed(error)

    def _failed(self, error: BaseException) -> CaseOutcome:
        if isinstance(error, OtherResultError):
            output = None if error.path is None else str(error.path)
            return CaseOutcome(self.case.id, "kept", output, error=error.reason)
        text = str(error) or type(error).__name__
        out_of_memory = is_out_of_memory(error)
        if out_of_memory and not isinstance(error, OutOfMemoryError):
            text = f"out of memory: {text}. Use fewer --workers, or a machine with more memory."
        return CaseOutcome(
            self.case.id,
            "failed",
            None,
            self._stopwatch.seconds,
            text,
            out_of_memory=out_of_memory,
            existing_file=isinstance(error, ExistingFileError),
        )

    def _read(self) -> ComputeStep | CaseOutcome:
        for path in self.case.images:
            if not split_selector(path)[0].exists():
                raise DataError(f"{path}: no such file")
        tiled = self.segmenter.tiled
        image = None if tiled is None else open_tiled_image(tiled, self.case)
        if tiled is not None and image is not None:
            return self._read_tiled(tiled, image)
        files = self._files(output_suffix(self.case.image), windowed=False)
        if files.is_complete():
            return self._skipped(files)
        scan = read_image(self.case, self.options.dicom_geometry)
        constant = describe_constant_image(scan)
        scan = replace(scan, notes=(*scan.notes, constant)) if constant else scan
        prepared = self.segmenter.prepare(scan, read_foreground(self.case, scan))
        return lambda: self._segment(files, prepared)

    def _segment(self, files: CaseFiles, prepared: PreparedT) -> WriteStep:
        scratch = self.output / "probabilities"
        prediction = self.segmenter.run(prepared, probabilities=self.options.probabilities, scratch=scratch)
        return lambda: self._write(files, prediction)

    def _write(self, files: CaseFiles, prediction: Prediction) -> CaseOutcome:
        """Write all outputs under temporary names, then rename them together."""
        case, options, labels = self.case, self.options, self.segmenter.header.labels
        notes = prediction.scan.notes
        with ExitStack() as staged:
            label_map = staged.enter_context(write_atomic(files.label_map))
            colors = value_palette(labels)
            values, found = prediction.label_map, prediction.instances
            if found is not None:
                values, colors = found.label_map(), None
                write_instance_files(self.output, case.id, found, prediction.scan, labels, staged)
            reader_for(case.image).write_label_map(label_map, values, prediction.scan, colors)
            if options.probabilities:
                write_probabilities(self.output, case.id, prediction, staged)
            if options.overlays:
                write_overlays(self.output, case, prediction, self.segmenter.header, staged)
            if options.dicom:
                notes += self._write_dicom(prediction, staged)
            files.commit(staged)
        return files.record(self.segmenter, self._stopwatch.seconds, prediction.notes, notes, prediction)

    def _write_dicom(self, prediction: Prediction, staged: ExitStack) -> tuple[str, ...]:
        """Write the DICOM objects; returns notes on what the series lacks."""
        source = read_source_series(self.case.image, self.options.dicom_geometry)
        values, segments = prediction.label_map, label_segments(self.segmenter.header.labels)
        if prediction.instances is not None:
            values = prediction.instances.label_map()
            segments = instance_segments(prediction.instances, self.segmenter.header.labels)
        planes = planes_on_slices(values, prediction.scan.grid, source)
        algorithm = SegmentAlgorithm(model=self.segmenter.digest)
        for kind, dataset in build_objects(self.options.dicom, planes, segments, source, algorithm).items():
            path = staged.enter_context(write_atomic(object_path(self.output, self.case.id, kind)))
            dataset.save_as(path, enforce_file_format=True)
        return source.notes

    def _read_tiled(self, tiled: TiledSegmenter, image: TiledImage) -> ComputeStep | CaseOutcome:
        """Prepare a picture that stays in its file; it remains open until it is segmented."""
        with ExitStack() as opened:
            opened.callback(image.close)
            files = self._files(OUTPUT_SUFFIX, windowed=True)
            if files.is_complete():
                return self._skipped(files)
            prepared = tiled.prepare_tiled(image)
            opened.pop_all()
        return lambda: self._segment_tiled(tiled, files, prepared)

    def _segment_tiled(
        self, tiled: TiledSegmenter, files: CaseFiles, prepared: PreparedTiledImage
    ) -> WriteStep:
        """Segment a picture from file to file; nothing is left for the writing step but the record."""
        outputs = TiledOutputs(self.case.id, files.label_map, self.output, self.options)
        try:
            with ExitStack() as staged:
                notes = segment_tiled(tiled, prepared, outputs, staged)
                files.commit(staged)
        finally:
            prepared.image.close()
        notes = (describe_tiled_image(prepared.image), *notes)
        return lambda: files.record(self.segmenter, self._stopwatch.seconds, notes)

    def _files(self, suffix: str, *, windowed: bool) -> CaseFiles:
        recipe = result_recipe(self.segmenter, self.case, self.options.dicom_geometry, windowed=windowed)
        return CaseFiles(self.case, self.output, self.options, suffix, recipe)

    def _skipped(self, files: CaseFiles) -> CaseOutcome:
        return CaseOutcome(self.case.id, "skipped", str(files.label_map))


class _Stopwatch:
    """The time spent in the steps of a case, without the time between them."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._began: float | None = None

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._sum, self._began = self.seconds, None

    @property
    def seconds(self) -> float:
        """Seconds, including the step that is running."""
        return self._sum + (0.0 if self._began is None else time.monotonic() - self._began)


def _disk_full_error(error: BaseException, output: Path) -> DiskFullError:
    path = getattr(error, "filename", None) or output
    return DiskFullError(
        f"{describe_full_disk(Path(path))}; finished cases are kept, and no file is incomplete",
        hint="Free some space and run the same command again.",
    )
