"""Files of an evaluation: which are written, which are replaced, and which never are."""

from __future__ import annotations

import csv
import json
import logging
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from medseg.data.labels.schema import LabelSchema
from medseg.errors import ConfigError, ExistingFileError, MedsegError
from medseg.evaluation.evaluation import CaseFiles as EvaluatedFiles
from medseg.evaluation.evaluation import Evaluation
from medseg.files import check_writable, write_atomic, write_json, write_text
from medseg.metrics import long_rows, write_csv, write_summary
from medseg.metrics.tables.columns import IDENTITY
from medseg.metrics.tables.paper import LATEX_MARK, MARKDOWN_MARK
from medseg.report.page import check_page, page_kind
from medseg.report.pages.case_sections import DEFAULT_LIMITS, CaseFiles, DrawingLimits, draw_case_sections
from medseg.report.pages.evaluation import EVALUATION_PAGE, write_evaluation_page
from medseg.report.pages.scored_cases import ScoredCases

_LOGGER = logging.getLogger(__name__)

CASES_FILE = "cases.csv"
SCORES_FILE = "scores.csv"
SUMMARY_FILE = "summary.json"
CASE_FILES = "files.json"
MARKDOWN_FILE, LATEX_FILE = "table.md", "table.tex"
PARQUET_FILES = ("cases.parquet", "scores.parquet")
REPORT_FILE = "report.html"


@dataclass(frozen=True)
class OutputFiles:
    """The files that one kind of evaluation writes into a folder.

    A folder never has files of two evaluations of one kind: the earlier ones are removed once there are new
    ones. Files that this kind did not write are never replaced.

    Attributes:
        command: that writes them.
        tables: names of the tables.
        summary: name of the JSON file with all scores, which is written last.
        columns: first columns of every CSV table.
        page: kind of the page ``report.html``.
        marks: how the first line of a table in text begins.
    """

    command: str
    tables: tuple[str, ...]
    summary: str
    columns: tuple[str, ...]
    page: str
    marks: tuple[str, ...] = (MARKDOWN_MARK, LATEX_MARK)

    def check(self, output: Path, *, report: bool = True) -> None:
        """Check that a folder can take the files.

        Args:
            output: the folder, which need not exist.
            report: whether a report is written.

        Raises:
            ConfigError: if it is a file.
            ExistingFileError: if it contains files of these names of another origin.
            NotWritableError: if it cannot be written to.
        """
        check_output_folder(output)
        for path in (output / name for name in (*self.tables, self.summary)):
            if path.exists() and not self._wrote(path):
                raise ExistingFileError(
                    f"{path}: exists and was not written by {self.command}",
                    hint="Choose another --output, or move the file.",
                    path=path,
                )
        if report:
            hint = "Choose another --output, move the file, or add --no-report."
            check_page(output / REPORT_FILE, self.page, hint=hint)

    @contextmanager
    def naming_earlier(self, output: Path | None) -> Generator[None]:
        """Warn, if an evaluation fails before it writes, that tables in its folder are of an earlier one."""
        try:
            yield
        except MedsegError:
            if output is not None and any((output / name).exists() for name in (*self.tables, self.summary)):
                _LOGGER.warning(
                    "%s: nothing was written; the tables there are of an earlier evaluation", output
                )
            raise

    @contextmanager
    def replacing(self, output: Path | None) -> Generator[None]:
        """Check a folder, and remove earlier files after an evaluation; if it fails, they stay and are named.

        Raises:
            ConfigError, ExistingFileError, NotWritableError: as ``check``.
        """
        if output is not None:
            self.check(output, report=False)
        with self.naming_earlier(output):
            yield
        if output is not None:
            self.remove(output)

    def remove(self, output: Path) -> None:
        """Remove the files of an earlier evaluation, its report too, before those of a new one are written."""
        for name in (self.summary, *self.tables):
            (output / name).unlink(missing_ok=True)
        if page_kind(output / REPORT_FILE) == self.page:
            (output / REPORT_FILE).unlink()

    def _wrote(self, path: Path) -> bool:
        try:
            if path.suffix == ".parquet":  # written before the summary, and removed with it
                path = path.with_name(self.summary)
            with path.open(encoding="utf-8", newline="") as stream:
                if path.suffix == ".json":
                    content = json.load(stream)
                    return isinstance(content, Mapping) and "definitions" in content
                if path.suffix == ".csv":
                    return tuple(next(csv.reader(stream), list[str]()))[: len(self.columns)] == self.columns
                return stream.readline().startswith(self.marks)
        except (OSError, ValueError, csv.Error):
            return False


TABLES = OutputFiles(
    "medseg evaluate",
    (CASES_FILE, SCORES_FILE, CASE_FILES, MARKDOWN_FILE, LATEX_FILE, *PARQUET_FILES),
    SUMMARY_FILE,
    columns=IDENTITY[:3],
    page=EVALUATION_PAGE,
)


def write_tables(output: Path, evaluation: Evaluation) -> None:
    """Write all tables of an evaluation into a folder; Parquet only where pyarrow is installed."""
    write_csv(output / CASES_FILE, evaluation.rows)
    write_csv(output / SCORES_FILE, long_rows(evaluation.rows, evaluation.unit))
    write_text(output / MARKDOWN_FILE, evaluation.to_markdown())
    write_text(output / LATEX_FILE, evaluation.to_latex())
    if find_spec("pyarrow"):
        frames: tuple[Any, Any] = evaluation.to_frame(), evaluation.to_long_frame()
        for name, frame in zip(PARQUET_FILES, frames, strict=True):
            with write_atomic(output / name) as temporary:
                frame.to_parquet(temporary, engine="pyarrow", index=False)
    write_case_files(output, evaluation)
    write_summary(output / SUMMARY_FILE, evaluation.summary)


def write_case_files(output: Path, evaluation: Evaluation) -> None:
    """Write ``files.json``: the labels, and the files of each case, relative to the folder.

    Reports of comparisons draw them.
    """
    cases: dict[str, dict[str, str]] = {}
    for case, files in evaluation.files.items():
        paths = {"reference": files.reference, "prediction": files.prediction, "image": files.image}
        cases[case] = {key: _relative(path, output) for key, path in paths.items() if path is not None}
    labels = None if evaluation.labels is None else evaluation.labels.model_dump(mode="json")
    write_json(
        output / CASE_FILES,
        {"definitions": "paths are relative to this folder", "labels": labels, "cases": cases},
    )


def read_case_files(folder: Path) -> tuple[dict[str, EvaluatedFiles], LabelSchema | None]:
    """Read ``files.json``: case → its files, and the labels; nothing if the file is absent or damaged."""
    try:
        content = json.loads((folder / CASE_FILES).read_text(encoding="utf-8"))
        cases = {
            str(case): EvaluatedFiles(**{key: folder / path for key, path in paths.items()})
            for case, paths in content["cases"].items()
        }
        return cases, LabelSchema.model_validate(content["labels"]) if content["labels"] else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}, None


def _relative(path: Path, folder: Path) -> str:
    """Return a path relative to a folder; absolute where no relative path leads, as between drives."""
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:
        return path.resolve().as_posix()


def write_evaluation_report(path: Path, evaluation: Evaluation, limits: DrawingLimits = DEFAULT_LIMITS) -> None:
    """Write the report of an evaluation: verdict, tables, plots, and pictures of the worst cases.

    Args:
        path: file to write, ``.html``.
        evaluation: result of ``evaluate_cases``.
        limits: number and sizes of the pictures.

    Raises:
        ExistingFileError: if the file exists and is not a page of medseg of the same kind.

    Example:
        >>> evaluation = evaluate_cases("predictions", "labels")  # doctest: +SKIP
        >>> write_evaluation_report("report.html", evaluation)  # doctest: +SKIP
    """
    worst = ScoredCases(evaluation.rows).worst_cases(len(evaluation.rows))  # not all have a prediction to draw
    files = {
        case: CaseFiles(image=own.image, reference=own.reference, prediction=own.prediction)
        for case in worst
        if (own := evaluation.files.get(case)) is not None
    }
    sections = draw_case_sections(files, evaluation.labels, limits, evaluation.missing)
    write_evaluation_page(Path(path), evaluation.rows, evaluation.summary, sections)


def check_output_folder(output: Path) -> None:
    """Check that files can be written into a folder, which need not exist.

    Raises:
        ConfigError: if it is a file.
        NotWritableError: if it cannot be written to.
    """
    above = next(path for path in (output, *output.absolute().parents) if path.exists())
    if not above.is_dir():
        raise ConfigError(f"{above}: is a file, expected a folder", hint="Choose another --output.", path=above)
    check_writable(output)
