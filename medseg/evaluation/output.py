"""Files of an evaluation: which are written, which are replaced, and which never are."""

from __future__ import annotations

import csv
import json
import logging
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from medseg.data.labels.schema import LabelSchema
from medseg.errors import ConfigError, MedsegError
from medseg.evaluation.evaluation import CaseFiles as EvaluatedFiles
from medseg.evaluation.evaluation import Evaluation
from medseg.files import check_writable, write_atomic, write_json, write_text
from medseg.metrics import long_rows, write_csv, write_summary
from medseg.metrics.tables.columns import IDENTITY
from medseg.metrics.tables.paper import LATEX_MARK, MARKDOWN_MARK
from medseg.report.page import is_page
from medseg.report.pages.case_sections import DEFAULT_LIMITS, CaseFiles, DrawingLimits, draw_case_sections
from medseg.report.pages.evaluation import write_evaluation_page
from medseg.report.pages.scored_cases import ScoredCases

_LOGGER = logging.getLogger(__name__)

CASES_FILE = "cases.csv"
SCORES_FILE = "scores.csv"
SUMMARY_FILE = "summary.json"
CASE_FILES = "files.json"
MARKDOWN_FILE, LATEX_FILE = "table.md", "table.tex"
PARQUET_FILES = ("cases.parquet", "scores.parquet")

REPORT_FILE = "report.html"

_FILES = (
    CASES_FILE,
    SCORES_FILE,
    SUMMARY_FILE,
    CASE_FILES,
    MARKDOWN_FILE,
    LATEX_FILE,
    REPORT_FILE,
    *PARQUET_FILES,
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
        ExistingFileError: if the file exists and is not a page of medseg.

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


def check_output(output: Path) -> None:
    """Check that a folder can take the tables of an evaluation.

    Raises:
        ConfigError: if it is a file, or contains tables of another origin.
        NotWritableError: if it cannot be written to.
    """
    check_output_folder(output)
    for path in (output / name for name in _FILES):
        if path.exists() and not _is_ours(path):
            raise ConfigError(
                f"{path}: exists and was not written by medseg evaluate",
                hint="Choose another --output, or move the file.",
                path=path,
            )


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


def remove_tables(output: Path) -> None:
    """Remove all tables of an earlier evaluation, before those of a new one are written.

    A folder never has files of two evaluations: not even a report where the new one has none.
    """
    for name in _FILES:
        (output / name).unlink(missing_ok=True)


@contextmanager
def naming_earlier_tables(output: Path | None) -> Generator[None]:
    """Warn, if an evaluation fails before it writes, that the tables in its folder are of an earlier one."""
    try:
        yield
    except MedsegError:
        if output is not None and any((output / name).exists() for name in _FILES):
            _LOGGER.warning("%s: nothing was written; the tables there are of an earlier evaluation", output)
        raise


def _is_ours(path: Path) -> bool:
    try:
        if path.suffix == ".parquet":  # they are written before the summary, and removed with it
            return _is_ours(path.with_name(SUMMARY_FILE))
        with path.open(encoding="utf-8", newline="") as stream:
            if path.suffix == ".json":
                content = json.load(stream)
                return isinstance(content, Mapping) and "definitions" in content
            if path.suffix == ".html":
                return is_page(path)
            if path.suffix == ".csv":
                return next(csv.reader(stream), list[str]())[:3] == list(IDENTITY[:3])
            return stream.readline().strip() in (MARKDOWN_MARK, LATEX_MARK)
    except (OSError, ValueError, csv.Error):
        return False
