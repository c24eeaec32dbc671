"""The output folder of a batch: which files may be written, and the files that describe all cases.

Input files are never overwritten. Existing files are replaced only if a provenance record or ``medseg.json``
lists them as written by medseg.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from medseg.data.cases import Case, join_problems
from medseg.data.io.content_digest import content_files
from medseg.data.io.path_selectors import split_selector
from medseg.data.io.readers import is_zarr, output_suffix
from medseg.data.requested_cases import REQUESTED_FILE, write_requested
from medseg.dicom import OBJECTS_FOLDER
from medseg.errors import ConfigError, DataError, ExistingFileError
from medseg.files import as_json_object, remove_stale_temporaries, write_json, write_table, write_text
from medseg.inference.batch.options import BatchOptions
from medseg.inference.batch.outputs.dicom_objects import object_path
from medseg.inference.batch.outputs.files import CaseOutcome
from medseg.inference.batch.outputs.foreign_files import (
    FAILURE_COLUMNS,
    FAILURES,
    OTHER_OUTPUT,
    check_folders,
    check_tables,
)
from medseg.inference.batch.outputs.instance_files import FOLDER as INSTANCES_FOLDER
from medseg.inference.batch.outputs.instance_files import instance_paths, write_instance_table
from medseg.inference.batch.outputs.layout import check_clashes, label_path, legend_texts
from medseg.inference.batch.outputs.provenance import RECORDS, Record, read_record, read_records, record_path
from medseg.inference.batch.outputs.withdrawal import withdraw_failed, withdraw_result
from medseg.inference.batch.tiled_images import OUTPUT_SUFFIX
from medseg.inference.model.protocols import AnySegmenter
from medseg.inference.shift.warnings_table import WARNINGS, write_warnings
from medseg.system.locks import lock_folder
from medseg.system.version import medseg_version

_LOCK_HINT = (
    "Wait for it, use another --output for each process, or distribute the cases with --workers or --scheduler."
)


@contextmanager
def open_output(
    segmenter: AnySegmenter,
    cases: Sequence[Case],
    output: Path,
    options: BatchOptions,
    outcomes: list[CaseOutcome],
) -> Generator[None]:
    """Lock an output folder while a batch is written to it.

    ``medseg.json``, ``requested.json`` and the files of the layout are written before any case is read,
    ``failures.csv`` and ``warnings.csv`` at the end. ``medseg.json`` and the files of the layout are removed
    again if the folder gets no results. Nothing is left in a folder that was not an output folder of medseg if
    no case could be written because other files are in the way. Earlier results of failed cases are removed
    as :func:`withdraw_failed` says.

    Args:
        segmenter: the model.
        cases: all cases of the batch.
        output: output folder; created if it does not exist.
        options: outputs and the handling of existing results.
        outcomes: filled by the caller while the block runs.

    Raises:
        ConfigError: the folder cannot take these cases: another process writes to it, it holds predictions with
            other labels or files that medseg did not write, or an output would replace an input, a label file
            or a model.
    """
    check_instance_outputs(segmenter, options)
    check_clashes(output, [case.id for case in cases], options.layout)
    check_targets(segmenter, cases, output, options)
    check_folders(segmenter, output, options)
    with lock_folder(output, _LOCK_HINT):
        _remove_temporaries(output)
        suffix = output_suffix(cases[0].image) if cases else ".nii.gz"
        legend = legend_texts(segmenter.header.labels, suffix, options.layout) if cases else {}
        check_tables(segmenter, output)
        legends, requested = [output / name for name in ("medseg.json", *legend)], output / REQUESTED_FILE
        own = _own_files(output) if (output / RECORDS).is_dir() else set[str]()
        added = [path for path in legends if cases and (path.name in own or not os.path.lexists(path))]
        foreign = not has_results(output) and not os.path.lexists(requested)
        inputs = {path.resolve() for case in cases for path in _input_files(case)}
        write_labels(segmenter, cases, output, options, legend)
        write_requested(output, (case.id for case in cases))
        try:
            yield
        except BaseException:  # also when interrupted: list what failed until then
            with suppress(OSError):  # the first error is more important
                withdraw_failed(segmenter, cases, output, options, outcomes, inputs)
                _remove_without_results(output, added)
                _write_tables(output, outcomes)
            raise
        _remove_temporaries(output)  # of workers that died
        withdraw_failed(segmenter, cases, output, options, outcomes, inputs)
        _remove_without_results(output, added)
        if foreign and any(o.existing_file for o in outcomes) and all(o.status == "failed" for o in outcomes):
            requested.unlink(missing_ok=True)
        else:
            _write_tables(output, outcomes)


def _remove_temporaries(output: Path) -> None:
    """Remove what processes that ended have left half-written."""
    for name in ("", RECORDS, "probabilities", "overlays", INSTANCES_FOLDER, OBJECTS_FOLDER):
        remove_stale_temporaries(output / name)


def _own_files(output: Path) -> set[str]:
    """Names of ``medseg.json`` and the files that it lists as written by medseg; empty without it."""
    existing = _read_legend(output / "medseg.json")
    return set() if existing is None else {"medseg.json", *existing.get("files", [])}


def _remove_without_results(output: Path, added: Sequence[Path]) -> None:
    """Remove files that describe the label maps of a folder if it has none."""
    if not (output / RECORDS).is_dir():
        for path in added:
            path.unlink(missing_ok=True)


def has_results(output: Path) -> bool:
    """Whether medseg has written results to a folder."""
    return any((output / name).exists() for name in ("medseg.json", RECORDS, FAILURES))


def result_files(output: Path, case: str, suffixes: Iterable[str], options: BatchOptions) -> list[Path]:
    """List every file that may be written for a case: the label map with each suffix, and the other outputs."""
    files = [label_path(output, case, suffix, options.layout) for suffix in dict.fromkeys(suffixes)]
    if options.probabilities:
        files += [output / "probabilities" / f"{case}{suffix}" for suffix in (".nii.gz", ".npz", OUTPUT_SUFFIX)]
    if options.overlays:
        files += [output / "overlays" / folder / f"{case}.png" for folder in ("", "full_size", "reduced")]
    files += instance_paths(output, case)
    return files + [object_path(output, case, kind) for kind in options.dicom]


def check_targets(segmenter: AnySegmenter, cases: Sequence[Case], output: Path, options: BatchOptions) -> None:
    """Check that no output would replace an input file, also through links.

    Raises:
        ConfigError: outputs would replace inputs; the message lists them.
    """
    inputs = [path for case in cases for path in _input_files(case)]
    inputs += [path for member in segmenter.members for path in member.files]
    paths = {path.resolve() for path in inputs}
    identities = {(status.st_dev, status.st_ino) for path in paths if (status := _status(path))}
    folder = output.resolve()
    for path in paths:
        if path.is_dir() and (folder == path or (is_zarr(path) and folder.is_relative_to(path))):
            raise ConfigError(
                f"{output}: the folder is itself an input, a folder of one scan",
                hint=OTHER_OUTPUT,
                path=output,
            )
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
                f"{output}: outputs would replace input files (images, labels or models), which is not allowed "
                "even with --overwrite",
                problems,
            ),
            hint=OTHER_OUTPUT,
            path=output,
        )


def check_written_by_medseg(record: Record | None, target: Path, files: Iterable[Path]) -> None:
    """Check that the existing files of a case are those that its record lists.

    Args:
        record: record of the case; None if there is none.
        target: the label map to be written.
        files: all files that may be written.

    Raises:
        ExistingFileError: medseg did not write one of the files, or the case has a label map of another name.
    """
    if record is not None and record.finished and record.label_map != target:
        raise ExistingFileError(
            f"{record.label_map}: existing label map of this case; with this --layout or kind of input its "
            f"name would be {target.name}",
            hint="Remove it, or choose another --output.",
            case=record.case,
            path=record.label_map,
        )
    own = frozenset[Path]() if record is None else record.files
    for path in files:
        if os.path.lexists(path) and path not in own:
            raise ExistingFileError(
                f"{path}: file exists and is never replaced, because no record in {RECORDS}/ lists it as a "
                "file that medseg wrote",
                hint="Move it, or choose another --output.",
                path=path,
            )


def check_instance_outputs(segmenter: AnySegmenter, options: BatchOptions) -> None:
    """Check that the outputs exist for a model that tells objects apart.

    Raises:
        ConfigError: probabilities are requested of such a model.
    """
    if segmenter.header.instances is not None and options.probabilities:
        raise ConfigError(
            "probabilities: not available from a model that tells objects apart (task.name=instances)",
            hint="Leave them out; the objects and their scores are in instances/.",
        )


def write_labels(
    segmenter: AnySegmenter,
    cases: Sequence[Case],
    output: Path,
    options: BatchOptions,
    legend: Mapping[str, str],
) -> None:
    """Write ``medseg.json``, the meaning of the label values, and the same in the formats of other tools.

    Args:
        segmenter: the model.
        cases: all cases of the batch; with ``options.overwrite``, their results with other labels are removed,
            because their values would be read with the new names.
        output: output folder.
        options: whether existing results are replaced.
        legend: file name → content of the files for other tools.

    Raises:
        ConfigError: the folder holds predictions with other labels, or a file of ``legend`` exists that medseg
            did not write.
    """
    path = output / "medseg.json"
    labels = segmenter.header.labels
    existing = _read_legend(path)
    content: dict[str, Any] = {
        "medseg_version": medseg_version(),
        "model_sha256": segmenter.digest,
        "labels": labels.model_dump(mode="json"),
    }
    outdated: list[Record] = []
    if existing is not None and _meaning(existing["labels"]) != _meaning(content["labels"]):
        replaced = {case.id for case in cases} if options.overwrite else set[str]()
        outdated = read_records(output)
        if not options.overwrite or any(record.case not in replaced for record in outdated):
            raise ConfigError(
                f"{output}: the folder holds predictions with other labels", hint=OTHER_OUTPUT, path=output
            )
    own = set[str]() if existing is None else set(existing.get("files", []))
    for name, text in legend.items():
        file = output / name
        if os.path.lexists(file) and name not in own and file.read_text(encoding="utf-8") != text:
            raise ConfigError(f"{file}: file exists, and medseg did not write it", hint=OTHER_OUTPUT, path=file)
    for record in outdated:
        withdraw_result(record)
    if own | legend.keys():
        content["files"] = sorted(own | legend.keys())
    write_json(path, content)
    for name, text in legend.items():
        write_text(output / name, text)


def _write_tables(output: Path, outcomes: Sequence[CaseOutcome]) -> None:
    """Write ``failures.csv``, and ``warnings.csv`` from the records of the folder."""
    write_failures(output, outcomes)
    finished = [record for record in read_records(output) if record.finished]
    write_warnings(output / WARNINGS, [record.content for record in finished])
    write_instance_table(output, [record.case for record in finished])


def write_failures(output: Path, outcomes: Sequence[CaseOutcome]) -> None:
    """Write ``failures.csv``: the cases that failed now, or failed earlier and still have no result."""
    now = {outcome.case for outcome in outcomes}
    path = output / FAILURES
    rows = [
        row for row in _read_failures(path) if row["case"] not in now and not _is_finished(output, row["case"])
    ]
    failed = [o for o in outcomes if o.status == "failed"]
    failed = [o for o in failed if not (o.existing_file and _is_finished(output, o.case))]
    rows += [{"case": o.case, "error": o.error or ""} for o in failed]
    write_table(path, FAILURE_COLUMNS, rows)


def _input_files(case: Case) -> list[Path]:
    """The files and folders that are read for a case, with the data files that headers refer to."""
    paths = (*case.images, *case.label_files, *case.masks.values(), case.foreground)
    bases = [split_selector(path)[0] for path in paths if path is not None]
    files = [file for base in bases if base.is_file() for file in _content_files(base)]
    return [*bases, *files]


def _content_files(path: Path) -> list[Path]:
    try:
        return content_files(path)
    except DataError:
        return []  # reading the case reports the error


def _targets(output: Path, case: Case, options: BatchOptions) -> list[Path]:
    try:
        suffixes = (output_suffix(case.image), OUTPUT_SUFFIX)
    except DataError:
        return []  # reading the case reports the error
    return [record_path(output, case.id), *result_files(output, case.id, suffixes, options)]


def _status(path: Path) -> os.stat_result | None:
    with suppress(OSError):
        return path.stat()
    return None


def _read_legend(path: Path) -> dict[str, Any] | None:
    """Read ``medseg.json``; None if it does not exist. Raises: ConfigError if it is not as medseg writes it."""
    if not path.is_file():
        return None
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error})", hint="Remove it, or choose another --output.", path=path
        ) from error
    legend = as_json_object(content)
    if not isinstance(legend.get("labels"), dict):
        raise ConfigError(f"{path}: no labels in the format of medseg", hint=OTHER_OUTPUT, path=path)
    return legend


def _meaning(labels: dict[str, Any]) -> dict[str, Any]:
    """Labels without colors and terminology codes."""
    return {**labels, "colors": {}, "terminology": {}}


def _read_failures(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return [{name: row.get(name) or "" for name in FAILURE_COLUMNS} for row in csv.DictReader(stream)]


def _is_finished(output: Path, case: str) -> bool:
    record = read_record(output, case)
    return record is not None and record.finished
