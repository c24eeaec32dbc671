"""Many scans through one predictor: finished ones skipped, failures listed, nothing half-written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from medseg.data.cases import Case
from medseg.data.io.multichannel import describe_constant_image, read_image
from medseg.data.io.path_selectors import split_selector
from medseg.data.io.readers import output_suffix, reader_for
from medseg.data.labels.reader import read_foreground
from medseg.data.tiled.tiled_image import TiledImage
from medseg.dicom.source_series import Maker
from medseg.errors import (
    ConfigError,
    ConversionError,
    DataError,
    DiskFullError,
    ExistingFileError,
    MedsegError,
    OutOfMemoryError,
)
from medseg.files import is_disk_full, write_atomic, write_json
from medseg.inference.batch.dicom_objects import object_path, refuse_undicom, write_objects
from medseg.inference.batch.options import DEFAULTS, BatchOptions
from medseg.inference.batch.output_files import (
    CaseOutcome,
    complete,
    provenance,
    write_overlay,
    write_probabilities,
)
from medseg.inference.batch.output_folder import check_own, open_output, result_files
from medseg.inference.batch.output_layout import label_path
from medseg.inference.batch.provenance import check_current, made_of, read_record, record_path
from medseg.inference.batch.tiled_images import OUTPUT_SUFFIX, LargeOutputs, open_if_large, segment_large
from medseg.inference.model.prediction import Prediction, PreparedScan, PreparedTiledImage
from medseg.inference.model.predictor import Predictor
from medseg.inference.model.protocols import Segmenter
from medseg.report.palette import value_palette
from medseg.system.allocator import is_out_of_memory


def infer_cases(
    predictor: Segmenter,
    cases: list[Case],
    output: Path,
    options: BatchOptions = DEFAULTS,
    *,
    report: Callable[[CaseOutcome], None] = lambda outcome: None,
) -> list[CaseOutcome]:
    """Segment each case into ``output``; a case that fails is listed and the rest goes on.

    A case that there is not enough memory for fails, too, after a second try with less.

    Writes ``<case>.<ext>``, ``medseg.json``, ``provenance/<case>.json`` and, where asked for,
    ``probabilities/``, ``overlays/`` and ``dicom/``; ``failures.csv`` lists the folder's cases that failed.
    A case whose result is there, made of the same input by the same models with the same settings, is skipped;
    another result is an error, unless ``overwrite`` replaces it. Files that medseg did not write, and files
    that are read, are never replaced.
    While the network works on a case, the next one is read and the last one written.
    Raises: ConfigError as ``open_output``, or if DICOM objects are asked for that cannot be written (of cases
    that are no DICOM series, without highdicom);
    DiskFullError if there is no room for an output; ConversionError if a network cannot be converted for the
    backend that was asked for.
    """
    output = Path(output)
    refuse_undicom(cases, options.dicom)
    outcomes: list[CaseOutcome] = []

    def done(outcome: CaseOutcome) -> None:
        outcomes.append(outcome)
        report(outcome)

    with open_output(predictor, cases, output, options, outcomes):
        _overlapped(predictor, [_Job(case, output, options) for case in cases], done)
    order = {case.id: i for i, case in enumerate(cases)}
    return sorted(outcomes, key=lambda outcome: order[outcome.case])


def infer_case(predictor: Segmenter, case: Case, output: Path, options: BatchOptions) -> CaseOutcome:
    """Segment one case into an output folder that another process has opened and holds (``open_output``)."""
    outcomes: list[CaseOutcome] = []
    _overlapped(predictor, [_Job(case, output, options)], outcomes.append)
    return outcomes[0]


def _overlapped(predictor: Segmenter, jobs: list[_Job], done: Callable[[CaseOutcome], None]) -> None:
    """The next case is read and the last one written while the network works: one of each at a time.

    Cases that run out of memory are tried once more at the end, with nothing beside them.
    """
    starved: list[tuple[_Job, CaseOutcome]] = []

    def settle(job: _Job, outcome: CaseOutcome) -> None:
        if outcome.out_of_memory and len(jobs) > 1:
            starved.append((job, outcome))
        else:
            done(outcome)

    try:
        _in_parallel(predictor, jobs, settle)
        while starved:
            job, _ = starved[0]
            outcome = job.alone(predictor)
            starved.pop(0)
            done(outcome)
    finally:
        for _, outcome in starved:  # the command was stopped before their second try
            done(outcome)


def _in_parallel(predictor: Segmenter, jobs: list[_Job], settle: Callable[[_Job, CaseOutcome], None]) -> None:
    with ThreadPoolExecutor(1, "medseg-read") as reader, ThreadPoolExecutor(1, "medseg-write") as writer:
        ahead = reader.submit(jobs[0].read, predictor) if jobs else None
        behind: tuple[_Job, Future[CaseOutcome]] | None = None
        try:
            for i, job in enumerate(jobs):
                assert ahead is not None
                outcome = job.attempt(ahead.result)
                ahead = reader.submit(jobs[i + 1].read, predictor) if i + 1 < len(jobs) else None
                outcome = job.compute(predictor, outcome)
                if behind is not None:
                    settle(behind[0], behind[1].result())
                behind = job, writer.submit(job.finish, predictor, outcome)
                del outcome  # not kept while the next case is computed
            if behind is not None:
                settle(behind[0], behind[1].result())
        except BaseException:
            if behind is not None and not behind[1].cancel() and behind[1].exception() is None:
                settle(behind[0], behind[1].result())  # what was on its way is kept
            raise


Step = TypeVar("Step")


@dataclass
class _Job:
    """One case on its way through reading, network and writing."""

    case: Case
    output: Path
    options: BatchOptions
    seconds: float = 0.0
    made_of: dict[str, Any] = field(default_factory=dict)
    large: bool = False
    kept: set[Path] = field(default_factory=set)
    """Files of the same result that are there already."""
    replaced: set[Path] = field(default_factory=set)
    """Files of the result that this one replaces."""

    @property
    def suffix(self) -> str:
        return OUTPUT_SUFFIX if self.large else output_suffix(self.case.image)

    @property
    def target(self) -> Path:
        return label_path(self.output, self.case.id, self.suffix, self.options.layout)

    @property
    def files(self) -> list[Path]:
        """Every file that may be written of the case."""
        return result_files(self.output, self.case.id, [self.suffix], self.options)

    def read(self, predictor: Segmenter) -> PreparedScan | PreparedTiledImage | CaseOutcome:
        """The scan as the networks take it, or a large picture opened; or that nothing needs to be done."""
        with self._timed():
            for path in self.case.images:
                if not split_selector(path)[0].exists():
                    raise DataError(f"{path}: no such file")
            if isinstance(predictor, Predictor):
                image = open_if_large(predictor, self.case)
                if image is not None:
                    return self._read_large(predictor, image)
            done = self._skipped(predictor)
            if done is not None:
                return done
            scan = read_image(self.case, self.options.dicom_geometry)
            uniform = describe_constant_image(scan)
            scan = replace(scan, notes=(*scan.notes, uniform)) if uniform else scan
            return predictor.prepare(scan, read_foreground(self.case, scan))

    def _read_large(self, predictor: Predictor, image: TiledImage) -> PreparedTiledImage | CaseOutcome:
        """The picture stays open if it is to be segmented."""
        self.large = True
        ready: PreparedTiledImage | None = None
        try:
            done = self._skipped(predictor)
            if done is not None:
                return done
            ready = predictor.prepare_tiled(image)
            return ready
        finally:
            if ready is None:
                image.close()

    def _skipped(self, predictor: Segmenter) -> CaseOutcome | None:
        """That the result is there; none if it is to be made.

        Raises: ExistingFileError if another one is there, or a file that medseg did not write.
        """
        self.made_of = made_of(predictor, self.case, self.options.dicom_geometry, windowed=self.large)
        record = read_record(self.output, self.case.id)
        check_own(record, self.target, self.files)
        if record is None or not record.finished or self.options.overwrite:
            return None
        check_current(record, self.made_of)
        return (
            CaseOutcome(self.case.id, "skipped", str(self.target)) if complete(record, self.options) else None
        )

    def attempt(self, step: Callable[[], Step]) -> Step | CaseOutcome:
        """What a step gives, or that its case failed. Raises: what every case would end with."""
        try:
            return step()
        except (ConversionError, ConfigError):
            raise  # every other case would end so
        except (MedsegError, OSError, ValueError, RuntimeError, MemoryError) as error:
            if is_disk_full(error):
                raise DiskFullError(_disk_full(error, self.output)) from error
            starved, text = is_out_of_memory(error), str(error) or type(error).__name__
            if starved and not isinstance(error, OutOfMemoryError):
                text = f"out of memory: {text}. Take fewer --workers, or a machine with more memory."
            refused = isinstance(error, ExistingFileError)
            return CaseOutcome(
                self.case.id, "failed", None, self.seconds, text, out_of_memory=starved, refused=refused
            )

    def compute(
        self, predictor: Segmenter, ready: PreparedScan | PreparedTiledImage | CaseOutcome
    ) -> Prediction | CaseOutcome:
        """Run the network on what was read, if the case came so far."""
        if isinstance(ready, CaseOutcome):
            return ready
        if isinstance(ready, PreparedTiledImage):
            assert isinstance(predictor, Predictor)
            return self.attempt(partial(self.stream, predictor, ready))
        return self.attempt(partial(self.segment, predictor, ready))

    def alone(self, predictor: Segmenter) -> CaseOutcome:
        """The whole way of the case, step by step."""
        return self.finish(predictor, self.compute(predictor, self.attempt(partial(self.read, predictor))))

    def segment(self, predictor: Segmenter, ready: PreparedScan) -> Prediction:
        """What the network says of a scan."""
        with self._timed():
            scratch = self.output / "probabilities"
            return predictor.run(ready, probabilities=self.options.probabilities, scratch=scratch)

    def stream(self, predictor: Predictor, ready: PreparedTiledImage) -> CaseOutcome:
        """Segment a large picture, from file to file."""
        options = self.options
        outputs = LargeOutputs.of(
            self.case.id,
            self.target,
            self.output,
            probabilities=options.probabilities,
            overlays=options.overlays,
        )
        with self._timed():
            try:
                with self._claimed():
                    notes = segment_large(predictor, ready, outputs)
            finally:
                ready.image.close()
        return self._recorded(predictor, notes)

    def finish(self, predictor: Segmenter, result: Prediction | CaseOutcome) -> CaseOutcome:
        """Write a prediction."""
        if isinstance(result, CaseOutcome):
            return result
        return self.attempt(lambda: self._write(predictor, result))

    def _write(self, predictor: Segmenter, prediction: Prediction) -> CaseOutcome:
        case, options, target = self.case, self.options, self.target
        read = prediction.scan.notes
        colors = value_palette(predictor.header.labels)
        with self._timed(), self._claimed(), write_atomic(target) as temporary:  # before what else is asked for
            reader_for(case.image).write_label_map(temporary, prediction.label_map, prediction.scan, colors)
        if options.only_label_maps:
            return self._recorded(predictor, prediction.notes, read)
        self._record(predictor, read, self.files)
        with self._timed():
            if options.probabilities:
                write_probabilities(self.output / "probabilities", case.id, prediction)
            if options.overlays:
                write_overlay(self.output / "overlays", case, prediction, predictor.header)
            if options.dicom:
                read += write_objects(
                    {kind: object_path(self.output, case.id, kind) for kind in options.dicom},
                    case.image, prediction.label_map, prediction.scan.grid, predictor.header.labels,
                    Maker(model=predictor.digest), self.options.dicom_geometry,
                )  # fmt: skip
        return self._recorded(predictor, prediction.notes, read)

    @contextmanager
    def _claimed(self) -> Iterator[None]:
        """Record that the case's files are being written: what an interruption leaves may be replaced."""
        path, record = record_path(self.output, self.case.id), read_record(self.output, self.case.id)
        check_own(record, self.target, self.files)
        there = set() if record is None else {file for file in record.files if file.is_file()}
        self.kept = there & record.current_files(self.made_of) if record is not None else set()
        self.replaced = there - self.kept
        content = {"case": self.case.id, "unfinished": True, "output": self._named(self.target)}
        self._write_record(content, self.files)
        try:
            yield
        except BaseException:
            claimed = read_record(self.output, self.case.id)
            if claimed is None or not any(file.exists() for file in claimed.files):
                path.unlink(missing_ok=True)
                with suppress(OSError):  # other records are there
                    path.parent.rmdir()
            raise

    def _recorded(
        self, predictor: Segmenter, notes: tuple[str, ...], read: tuple[str, ...] = ()
    ) -> CaseOutcome:
        """The outcome; what the result was made of is written down. ``read`` tells of the reading."""
        files = [path for path in self.files if path.is_file()]
        self._record(predictor, read, files)
        stale = sorted(self._named(path) for path in self.replaced.difference(files))
        stale_notes = (f"left from the result that was replaced: {', '.join(stale)}",) if stale else ()
        notes = (*read, *notes, *stale_notes)
        return CaseOutcome(self.case.id, "done", str(self.target), self.seconds, notes=notes)

    def _record(self, predictor: Segmenter, read: tuple[str, ...], files: list[Path]) -> None:
        """Write down what the label map was made of."""
        content = provenance(predictor, self.case, self.made_of, self.output, self.target, self.seconds)
        self._write_record(content | ({"notes": list(read)} if read else {}), files)

    def _write_record(self, content: dict[str, Any], files: list[Path]) -> None:
        """Write the case's record: the files of this result, and what is left of the one that it replaces."""
        lists = {"files": self.kept.union(files), "earlier_files": self.replaced.difference(files)}
        named = {key: sorted(self._named(path) for path in paths) for key, paths in lists.items() if paths}
        write_json(record_path(self.output, self.case.id), content | named)

    def _named(self, path: Path) -> str:
        return path.relative_to(self.output).as_posix()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Add what a step takes to the case's seconds; they are its own steps, not what it waits for."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds += time.monotonic() - began


def _disk_full(error: BaseException, output: Path) -> str:
    place = getattr(error, "filename", None) or output
    return (
        f"{place}: no space left on the disk. Finished cases are kept and nothing is half-written: free some "
        "space and give the same command again."
    )
