"""The output folder of a cohort: what may be written there, and what lies beside the cases.

No file that an inference reads is ever written over. Of the files that are there, only those that a record of
provenance or ``medseg.json`` names as medseg's own are replaced.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any

from medseg.data.cases import Case, join_problems
from medseg.data.io.path_selectors import split_selector
from medseg.data.io.readers import is_zarr, output_suffix
from medseg.data.labels.schema import LabelSchema
from medseg.data.requested_cases import REQUESTED_FILE, write_requested
from medseg.dicom import OBJECTS_FOLDER
from medseg.errors import ConfigError, DataError, ExistingFileError
from medseg.files import remove_stale_temporaries, write_json, write_text
from medseg.inference.batch.dicom_objects import object_path
from medseg.inference.batch.options import BatchOptions
from medseg.inference.batch.output_files import CaseOutcome
from medseg.inference.batch.output_layout import check_clashes, label_path, legend_texts
from medseg.inference.batch.provenance import RECORDS, Record, read_record, read_records, record_path
from medseg.inference.batch.tiled_images import OUTPUT_SUFFIX
from medseg.inference.model.protocols import Segmenter
from medseg.system.locks import lock_folder

FAILURES = "failures.csv"
_FAILURE_COLUMNS = ["case", "error"]
_LOCK_ADVICE = (
    "Wait for it, give each process its own --output, or share the cases with --workers or --scheduler."
)


@contextmanager
def open_output(
    predictor: Segmenter,
    cases: Sequence[Case],
    output: Path,
    options: BatchOptions,
    outcomes: list[CaseOutcome],
) -> Iterator[None]:
    """Hold an output folder while a cohort is written to it.

    Before any case is read, ``medseg.json``, ``requested.json`` and what other tools need are written.
    ``outcomes`` are filled while the block runs; those that failed are in ``failures.csv`` afterwards. If no
    case was written as others' files are in the way, in a folder that was not medseg's, none of this stays.
    Raises: ConfigError if the folder cannot take these cases: another process writes to it, it holds other
    labels or files that are not medseg's in their place, or an output would lie over an input, a label or a
    model.
    """
    check_clashes(output, [case.id for case in cases], options.layout)
    check_targets(predictor, cases, output, options)
    with lock_folder(output, _LOCK_ADVICE):
        for name in ("", RECORDS, "probabilities", "overlays", OBJECTS_FOLDER):
            remove_stale_temporaries(output / name)
        suffix = output_suffix(cases[0].image) if cases else ".nii.gz"
        legend = legend_texts(predictor.header.labels, suffix, options.layout) if cases else {}
        _check_failures_file(output / FAILURES)
        written = [output / name for name in ("medseg.json", REQUESTED_FILE, *legend)]
        added = [] if is_medsegs(output) else [path for path in written if not os.path.lexists(path)]
        write_labels(predictor, cases, output, overwrite=options.overwrite, legend=legend)
        write_requested(output, (case.id for case in cases))
        try:
            yield
        except BaseException:
            with suppress(OSError):  # what ended the cohort says more
                write_failures(output, outcomes)
            raise
        if added and any(o.refused for o in outcomes) and all(o.status == "failed" for o in outcomes):
            for path in added:
                path.unlink(missing_ok=True)
        else:
            write_failures(output, outcomes)


def is_medsegs(output: Path) -> bool:
    """Whether medseg wrote to a folder before."""
    return any((output / name).exists() for name in ("medseg.json", RECORDS, FAILURES))


def result_files(output: Path, case: str, suffixes: Iterable[str], options: BatchOptions) -> list[Path]:
    """Every file that may be written for a case: its label map with each suffix, and the optional outputs."""
    files = [label_path(output, case, suffix, options.layout) for suffix in dict.fromkeys(suffixes)]
    if options.probabilities:
        files += [output / "probabilities" / f"{case}{suffix}" for suffix in (".nii.gz", ".npz", OUTPUT_SUFFIX)]
    if options.overlays:
        files += [output / "overlays" / folder / f"{case}.png" for folder in ("", "full_size", "reduced")]
    return files + [object_path(output, case, kind) for kind in options.dicom]


def check_targets(predictor: Segmenter, cases: Sequence[Case], output: Path, options: BatchOptions) -> None:
    """Raises: ConfigError listing the outputs that would lie over a file that is read, also through links."""
    read = [path for case in cases for path in _files_read(case)]
    read += [path for part in predictor.members for path in part.files]
    paths = {path.resolve() for path in read}
    identities = {(status.st_dev, status.st_ino) for path in paths if (status := _status(path))}
    folder = output.resolve()
    for path in paths:
        if path.is_dir() and (folder == path or (is_zarr(path) and folder.is_relative_to(path))):
            raise ConfigError(f"{output}: is an input, a folder of one scan; choose another --output")
    problems: list[str] = []
    for case in cases:
        for target in _targets(output, case, options):
            if not os.path.lexists(target):
                continue
            status = _status(target)
            same = status is not None and (status.st_dev, status.st_ino) in identities
            if same or target.resolve() in paths:
                problems.append(f"{case.id}: {target}")
    if problems:
        raise ConfigError(
            join_problems(
                f"{output}: outputs would replace files that are read (inputs, labels or models), also where "
                "--overwrite is given; choose another --output",
                problems,
            )
        )


def check_own(record: Record | None, target: Path, files: Iterable[Path]) -> None:
    """Check that the files of a case which are there are the ones its record names.

    Raises: ExistingFileError naming a file that medseg did not write, or a label map of this case under another
    name.
    """
    if record is not None and record.finished and record.label_map != target:
        raise ExistingFileError(
            f"{record.label_map}: is this case's label map, which would lie at {target.name} now (another "
            "--layout, or another kind of input). Remove it, or choose another --output."
        )
    own = frozenset() if record is None else record.files
    for path in files:
        if os.path.lexists(path) and path not in own:
            raise ExistingFileError(
                f"{path}: exists, and no record in {RECORDS}/ says that medseg wrote it, so it is never "
                "replaced. Move it away, or choose another --output."
            )


def write_labels(
    predictor: Segmenter, cases: Sequence[Case], output: Path, *, overwrite: bool, legend: dict[str, str]
) -> None:
    """Write ``medseg.json``, what the values in the label maps mean, and ``legend``, the same for other tools.

    Raises: ConfigError if the folder holds label maps with other labels, or a file of the legend's name that
    medseg did not write.
    """
    path = output / "medseg.json"
    labels: LabelSchema = predictor.header.labels
    there = _read_legend(path)
    content: dict[str, Any] = {
        "medseg_version": version("medseg"),
        "model_sha256": predictor.digest,
        "labels": labels.model_dump(mode="json"),
    }
    if there is not None and _meaning(there["labels"]) != _meaning(content["labels"]):
        redone = {case.id for case in cases} if overwrite else set[str]()
        others = [record.case for record in read_records(output) if record.case not in redone]
        if not overwrite or others:
            raise ConfigError(f"{output}: holds predictions with other labels; choose another --output")
    own = set[str]() if there is None else set(there.get("files", []))
    for name, text in legend.items():
        file = output / name
        if os.path.lexists(file) and name not in own and file.read_text(encoding="utf-8") != text:
            raise ConfigError(f"{file}: exists, and medseg did not write it; choose another --output")
    if own | legend.keys():
        content["files"] = sorted(own | legend.keys())
    write_json(path, content)
    for name, text in legend.items():
        write_text(output / name, text)


def write_failures(output: Path, outcomes: Sequence[CaseOutcome]) -> None:
    """``failures.csv``: the cases that failed now, and those that failed before and still have no result.

    A case whose finished result is there and was not to be replaced keeps it: it is not listed.
    """
    now = {outcome.case for outcome in outcomes}
    path = output / FAILURES
    rows = [
        row for row in _read_failures(path) if row["case"] not in now and not _is_finished(output, row["case"])
    ]
    failed = [o for o in outcomes if o.status == "failed"]
    failed = [o for o in failed if not (o.refused and _is_finished(output, o.case))]
    rows += [{"case": o.case, "error": o.error or ""} for o in failed]
    if not rows:
        path.unlink(missing_ok=True)
        return
    stream = StringIO()
    writer = csv.DictWriter(stream, _FAILURE_COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, stream.getvalue())


def _files_read(case: Case) -> list[Path]:
    marked = (*case.images, *case.label_files, *case.masks.values(), case.foreground)
    return [split_selector(path)[0] for path in marked if path is not None]


def _targets(output: Path, case: Case, options: BatchOptions) -> list[Path]:
    try:
        suffixes = (output_suffix(case.image), OUTPUT_SUFFIX)
    except DataError:
        return []  # it fails when it is read
    return [record_path(output, case.id), *result_files(output, case.id, suffixes, options)]


def _status(path: Path) -> os.stat_result | None:
    with suppress(OSError):
        return path.stat()
    return None


def _read_legend(path: Path) -> dict[str, Any] | None:
    """``medseg.json``, if it is there. Raises: ConfigError if it is something else."""
    if not path.is_file():
        return None
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path}: cannot be read ({error}); remove it, or choose another --output") from error
    if not isinstance(content, dict) or not isinstance(content.get("labels"), dict):
        raise ConfigError(f"{path}: holds no labels as medseg writes them; choose another --output")
    return content


def _meaning(labels: dict[str, Any]) -> dict[str, Any]:
    """Labels without how they are drawn and coded."""
    return {**labels, "colors": {}, "terminology": {}}


def _check_failures_file(path: Path) -> None:
    """Raises: ConfigError if it is not a list of failures as medseg writes it."""
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as stream:
            header = stream.readline().strip()
        if header != ",".join(_FAILURE_COLUMNS):
            raise ConfigError(f"{path}: exists, and medseg did not write it; choose another --output")


def _read_failures(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return [{name: row.get(name) or "" for name in _FAILURE_COLUMNS} for row in csv.DictReader(stream)]


def _is_finished(output: Path, case: str) -> bool:
    record = read_record(output, case)
    return record is not None and record.finished
