"""Output files of one case: written together or not at all, and listed in its provenance record."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg.data.cases import Case
from medseg.files import write_json
from medseg.inference.batch.options import BatchOptions
from medseg.inference.batch.outputs.files import CaseOutcome, describe_result, has_all_outputs
from medseg.inference.batch.outputs.folder import check_written_by_medseg, result_files
from medseg.inference.batch.outputs.layout import label_path
from medseg.inference.batch.outputs.provenance import Record, check_same_recipe, read_record, record_path
from medseg.inference.batch.outputs.withdrawal import withdraw_result
from medseg.inference.model.prediction import Prediction
from medseg.inference.model.protocols import AnySegmenter


@dataclass
class CaseFiles:
    """The output files of one case.

    Attributes:
        case: the case.
        output: output folder.
        options: which files are written, and whether existing results are replaced.
        suffix: file name suffix of the label map, such as ``.nii.gz``.
        recipe: everything that determines the result (``result_recipe``).
    """

    case: Case
    output: Path
    options: BatchOptions
    suffix: str
    recipe: dict[str, Any]
    _current: set[Path] = field(default_factory=set[Path], init=False)
    """Existing files of a result with the same recipe."""
    _outdated: set[Path] = field(default_factory=set[Path], init=False)
    """Existing files of a result with another recipe."""

    @property
    def label_map(self) -> Path:
        """Path of the label map."""
        return label_path(self.output, self.case.id, self.suffix, self.options.layout)

    @property
    def planned(self) -> list[Path]:
        """Every file that may be written for the case."""
        return result_files(self.output, self.case.id, [self.suffix], self.options)

    def is_complete(self) -> bool:
        """Whether a finished result with the same recipe exists and is to be kept.

        Raises:
            OtherResultError: a result of another recipe exists.
            ExistingFileError: a file exists that medseg did not write.
        """
        record = read_record(self.output, self.case.id)
        check_written_by_medseg(record, self.label_map, self.planned)
        if record is None or not record.finished or self.options.overwrite:
            return False
        check_same_recipe(record, self.recipe)
        return has_all_outputs(record, self.options)

    def commit(self, staged: ExitStack) -> None:
        """Rename the staged files to their final names.

        Until :meth:`record` is called, the record marks the case as unfinished, so that files left by an
        interruption may be replaced.

        Args:
            staged: contexts of ``write_atomic`` whose files are complete; the label map entered first, so that
                it is renamed last.

        Raises:
            ExistingFileError: a file that medseg did not write has the name of an output.
        """
        record = read_record(self.output, self.case.id)
        check_written_by_medseg(record, self.label_map, self.planned)
        existing = set[Path]() if record is None else {file for file in record.files if file.is_file()}
        self._current = existing & record.current_files(self.recipe) if record is not None else set()
        self._outdated = existing - self._current
        content = {"case": self.case.id, "unfinished": True, "output": self._relative(self.label_map)}
        self._write_record(content, self.planned)
        try:
            staged.close()
        except BaseException:  # also when interrupted: the label map is not the new one
            self._restore(record)
            raise

    def record(
        self,
        segmenter: AnySegmenter,
        seconds: float,
        notes: tuple[str, ...],
        reading_notes: tuple[str, ...] = (),
        prediction: Prediction | None = None,
    ) -> CaseOutcome:
        """Write the provenance record of the finished result.

        Args:
            segmenter: the model.
            seconds: time spent on the case.
            notes: notes of the outcome alone, such as how memory was saved.
            reading_notes: notes on how the input was read; part of the record.
            prediction: gives the shift and the scale.
        """
        files = [path for path in self.planned if path.is_file()]
        result = {"output": self._relative(self.label_map), "seconds": round(seconds, 3)}
        content = describe_result(segmenter, self.case, self.recipe, self.label_map) | result
        content |= {"notes": list(reading_notes)} if reading_notes else {}
        warnings: tuple[str, ...] = ()
        if prediction is not None and prediction.scale is not None:
            content["rescale"] = prediction.scale.as_dict()
            if prediction.scale.factor != 1:
                notes = (*notes, f"resized by {prediction.scale.factor:g}")
        if prediction is not None and prediction.shift is not None:
            content["shift"] = prediction.shift.as_dict()
            warnings = prediction.shift.lines
        self._write_record(content, files)
        outdated = sorted(self._relative(path) for path in self._outdated.difference(files))
        left = (f"files of the replaced result remain: {', '.join(outdated)}",) if outdated else ()
        notes = (*reading_notes, *notes, *left)
        return CaseOutcome(self.case.id, "done", str(self.label_map), seconds, notes=notes, warnings=warnings)

    def _write_record(self, content: dict[str, Any], files: list[Path]) -> None:
        """Write the record with the files of this result, and those that an earlier one left."""
        lists = {"files": self._current.union(files), "earlier_files": self._outdated.difference(files)}
        names = {key: sorted(self._relative(path) for path in paths) for key, paths in lists.items() if paths}
        write_json(record_path(self.output, self.case.id), content | names)

    def _restore(self, record: Record | None) -> None:
        """Keep an earlier result of the same recipe with its record; remove any other, and what was renamed.

        Args:
            record: the earlier record.
        """
        if record is not None and self.label_map in self._current and self.label_map.is_file():
            existing = {path for path in self._current.union(self.planned) if path.is_file()}
            self._write_record(dict(record.content), sorted(existing - self._outdated))
        elif (written := read_record(self.output, self.case.id)) is not None:
            withdraw_result(written)

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.output).as_posix()
