"""Many scans through one predictor: finished ones skipped, failures listed, nothing half-written."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from medseg.data.cases import Case
from medseg.data.dicom import Uneven
from medseg.data.dicom_out.source import Maker
from medseg.data.facts import image_digest
from medseg.data.images import read_image
from medseg.data.large.image import LargeImage
from medseg.data.readers import output_suffix, reader_for, split_mark
from medseg.data.targets import read_foreground
from medseg.device import is_out_of_memory
from medseg.errors import ConfigError, ConversionError, DataError, MedsegError, OutOfMemoryError
from medseg.files import write_atomic, write_json
from medseg.inference.dicom_objects import object_path, refuse_undicom, write_objects
from medseg.inference.large import OUTPUT_SUFFIX, LargeOutputs, open_if_large, segment_large
from medseg.inference.outputs import (
    NO_EXTRAS,
    CaseOutcome,
    Extras,
    complete,
    provenance,
    refuse_stale,
    write_failures,
    write_labels,
    write_overlay,
    write_probabilities,
)
from medseg.inference.placing import label_path, refuse_clashes, write_legend
from medseg.inference.predictor import LargeReady, Prediction, Predictor, Ready
from medseg.inference.segmenter import Segmenter
from medseg.report.palette import value_palette


def infer_cases(
    predictor: Segmenter,
    cases: list[Case],
    output: Path,
    *,
    extras: Extras = NO_EXTRAS,
    overwrite: bool = False,
    alone: bool = True,
    uneven: Uneven = "refuse",
    report: Callable[[CaseOutcome], None] = lambda outcome: None,
) -> list[CaseOutcome]:
    """Segment each case into ``output``; a case that fails is listed and the rest goes on.

    Writes ``<case>.<ext>``, ``medseg.json``, ``provenance/<case>.json`` and, where asked for,
    ``probabilities/``, ``overlays/`` and ``dicom/``; ``failures.csv`` if any case failed. A case
    whose output is there, made by the same model of the same input, is skipped.
    ``uneven`` says what to do with DICOM series whose slices lie unevenly: their objects are of their own
    slices, their label maps on the even grid they are read onto.
    One that is not ``alone`` at work on ``output`` leaves ``medseg.json`` and ``failures.csv`` to another.
    While the network works on a case, the next one is read and the last one written.
    Raises: ConfigError if ``output`` holds predictions with other labels and ``overwrite`` is not given, or
    DICOM objects are asked for that cannot be written (of cases that are no DICOM series, without highdicom);
    OutOfMemoryError if there is not enough memory for a case; ConversionError if a network cannot be converted
    for the backend that was asked for.
    """
    output = Path(output)
    refuse_undicom(cases, extras.dicom)
    if alone:
        begin_output(predictor, cases, output, extras, overwrite)
    outcomes: list[CaseOutcome] = []

    def done(outcome: CaseOutcome) -> None:
        outcomes.append(outcome)
        report(outcome)

    jobs = [_Job(case, output, extras, overwrite, uneven) for case in cases]
    try:
        _overlapped(predictor, jobs, done)
    finally:
        if alone:
            write_failures(output, outcomes)
    return outcomes


def begin_output(
    predictor: Segmenter, cases: list[Case], output: Path, extras: Extras, overwrite: bool
) -> None:
    """What stands in the output before any case: what the values mean. Errors as ``infer_cases``."""
    refuse_clashes(output, [case.id for case in cases], extras.layout)
    write_labels(output, predictor, overwrite)
    if cases:
        suffix = output_suffix(cases[0].image)
        write_legend(output, predictor.header.labels, suffix, extras.layout)


def _overlapped(predictor: Segmenter, jobs: list[_Job], done: Callable[[CaseOutcome], None]) -> None:
    """The next case is read and the last one written while the network works: one of each at a time."""
    with ThreadPoolExecutor(1, "medseg-read") as reader, ThreadPoolExecutor(1, "medseg-write") as writer:
        ahead = reader.submit(jobs[0].read, predictor) if jobs else None
        behind: Future[CaseOutcome] | None = None
        try:
            for i, job in enumerate(jobs):
                assert ahead is not None
                read, ahead = ahead, None
                outcome = job.attempt(read.result)
                if i + 1 < len(jobs):
                    ahead = reader.submit(jobs[i + 1].read, predictor)
                if isinstance(outcome, Ready):
                    outcome = job.attempt(partial(job.segment, predictor, outcome))
                elif isinstance(outcome, LargeReady) and isinstance(predictor, Predictor):
                    outcome = job.attempt(partial(job.stream, predictor, outcome))
                if behind is not None:
                    done(behind.result())
                behind = writer.submit(job.finish, predictor, outcome)
            if behind is not None:
                done(behind.result())
        except BaseException:
            if behind is not None and not behind.cancel():
                done(behind.result())  # what was on its way is kept
            raise


Step = TypeVar("Step")


@dataclass
class _Job:
    """One case on its way through reading, network and writing."""

    case: Case
    output: Path
    extras: Extras
    overwrite: bool
    uneven: Uneven
    began: float = 0.0
    digest: str = ""
    large: bool = False

    @property
    def target(self) -> Path:
        suffix = OUTPUT_SUFFIX if self.large else output_suffix(self.case.image)
        return label_path(self.output, self.case.id, suffix, self.extras.layout)

    @property
    def record(self) -> Path:
        return self.output / "provenance" / f"{self.case.id}.json"

    def read(self, predictor: Segmenter) -> Ready | LargeReady | CaseOutcome:
        """The scan as the networks take it, or a large picture opened; or that nothing needs to be done."""
        self.began = time.monotonic()
        for path in self.case.images:
            if not split_mark(path)[0].exists():
                raise DataError(f"{path}: no such file")
        if isinstance(predictor, Predictor):
            image = open_if_large(predictor, self.case)
            if image is not None:
                return self._read_large(predictor, image)
        done = self._skipped(predictor)
        if done is not None:
            return done
        scan = read_image(self.case, self.uneven)
        return predictor.prepare(scan, read_foreground(self.case, scan))

    def _read_large(self, predictor: Predictor, image: LargeImage) -> LargeReady | CaseOutcome:
        """The picture stays open if it is to be segmented."""
        self.large = True
        ready: LargeReady | None = None
        try:
            done = self._skipped(predictor)
            if done is not None:
                return done
            ready = predictor.prepare_large(image)
            return ready
        finally:
            if ready is None:
                image.close()

    def _skipped(self, predictor: Segmenter) -> CaseOutcome | None:
        self.digest = image_digest(self.case)
        if self.target.exists() and not self.overwrite:
            refuse_stale(self.target, self.record, self.digest, predictor.digest)
            if complete(self.case.id, self.output, self.extras):
                return CaseOutcome(self.case.id, "skipped", str(self.target))
        return None

    def attempt(self, step: Callable[[], Step]) -> Step | CaseOutcome:
        """What a step gives, or that its case failed. Raises: what every case would end with."""
        try:
            return step()
        except (OutOfMemoryError, ConversionError, ConfigError):
            raise  # every other case would end so
        except (MedsegError, OSError, ValueError, RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise OutOfMemoryError(
                    f"case {self.case.id}: out of memory. Make the windows smaller or fewer at once, --set "
                    "roi_size=[…] --set batch_size=1, or infer with --device cpu. Finished cases are kept."
                ) from error
            return CaseOutcome(self.case.id, "failed", None, time.monotonic() - self.began, str(error))

    def segment(self, predictor: Segmenter, ready: Ready) -> Prediction:
        """What the network says of a scan."""
        scratch = self.output / "probabilities"
        return predictor.run(ready, probabilities=self.extras.probabilities, scratch=scratch)

    def stream(self, predictor: Predictor, ready: LargeReady) -> CaseOutcome:
        """Segment a large picture, from file to file."""
        extras = self.extras
        outputs = LargeOutputs.of(
            self.case.id, self.output, probabilities=extras.probabilities, overlays=extras.overlays
        )
        try:
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
        case, extras, target = self.case, self.extras, self.target
        read = prediction.scan.notes
        with write_atomic(target) as temporary:  # first: whatever becomes of the others
            colours = value_palette(predictor.header.labels)
            reader_for(case.image).write_label_map(temporary, prediction.label_map, prediction.scan, colours)
        outcome = self._recorded(predictor, prediction.notes, read)
        if extras.probabilities:
            write_probabilities(self.output / "probabilities", case.id, prediction)
        if extras.overlays:
            write_overlay(self.output / "overlays", case, prediction, predictor.header)
        if not extras.dicom:
            return outcome
        read += write_objects(
            {kind: object_path(self.output, case.id, kind) for kind in extras.dicom},
            case.image, prediction.label_map, prediction.scan.grid, predictor.header.labels,
            Maker(model=predictor.digest), self.uneven,
        )  # fmt: skip
        return self._recorded(predictor, prediction.notes, read)

    def _recorded(
        self, predictor: Segmenter, notes: tuple[str, ...], read: tuple[str, ...] = ()
    ) -> CaseOutcome:
        """The outcome; what the prediction was made of is written down. ``read`` tells of the reading."""
        seconds = time.monotonic() - self.began
        record = provenance(predictor, self.case, self.digest, self.output, self.target, seconds)
        write_json(self.record, record | ({"notes": list(read)} if read else {}))
        return CaseOutcome(self.case.id, "done", str(self.target), seconds, notes=(*read, *notes))
