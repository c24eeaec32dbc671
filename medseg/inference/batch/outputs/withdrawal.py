"""Removal of earlier results that a failed case must not leave behind."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from medseg.data.cases import Case, join_problems
from medseg.errors import DataError, MedsegError
from medseg.files import sha256_json
from medseg.inference.batch.options import BatchOptions
from medseg.inference.batch.outputs.files import CaseOutcome
from medseg.inference.batch.outputs.provenance import Record, read_record, record_path, result_recipe
from medseg.inference.model.protocols import AnySegmenter

_LOGGER = logging.getLogger(__name__)


def withdraw_failed(
    segmenter: AnySegmenter,
    cases: Sequence[Case],
    output: Path,
    options: BatchOptions,
    outcomes: Iterable[CaseOutcome],
    inputs: Collection[Path],
) -> None:
    """Remove the earlier results of failed cases, which would pass for results of the new settings.

    A result is removed if writing it was interrupted, or if ``options.overwrite`` asked to replace it and it
    was made from another input, model or setting. A result of the same recipe is still right and is kept.
    Where files of others were in the way, nothing is removed.

    Args:
        segmenter: the model.
        cases: all cases of the batch.
        output: output folder.
        options: whether existing results are replaced.
        outcomes: outcomes of the batch.
        inputs: resolved paths of files that are never removed.
    """
    failed = {one.case for one in outcomes if one.status == "failed" and not one.existing_file}
    removed: list[str] = []
    for case in cases:
        record = _read(output, case.id) if case.id in failed else None
        if record is None:
            continue
        outdated = options.overwrite and not _is_current(record, segmenter, case, options)
        if record.content.get("unfinished") or outdated:
            withdraw_result(record, inputs)
            removed.append(case.id)
    if removed:
        problem = "earlier results of failed cases, of other inputs or settings, were removed"
        _LOGGER.warning("%s", join_problems(problem, removed))


def withdraw_result(record: Record, inputs: Collection[Path] = ()) -> None:
    """Remove every file of a result, its label map first and its record last, and folders that become empty.

    Args:
        record: lists the files; those outside of its output folder are kept.
        inputs: resolved paths of files that are kept.
    """
    root = record.output.resolve()
    files = sorted(record.files | {record.label_map}, key=lambda path: path != record.label_map)
    for path in (*files, record_path(record.output, record.case)):
        place = path.parent.resolve() / path.name
        if place.is_relative_to(root) and path.resolve() not in inputs:
            path.unlink(missing_ok=True)
            _remove_empty_folders(place.parent, root)


def _remove_empty_folders(folder: Path, root: Path) -> None:
    with suppress(OSError):  # the folder holds other files
        while folder != root:
            folder.rmdir()
            folder = folder.parent


def _read(output: Path, case: str) -> Record | None:
    with suppress(DataError):  # not a record: the case failed for this reason
        return read_record(output, case)
    return None


def _is_current(record: Record, segmenter: AnySegmenter, case: Case, options: BatchOptions) -> bool:
    """Whether a finished result has the recipe of this batch; False if the input cannot be read."""
    if not record.finished:
        return False
    with suppress(MedsegError, OSError, ValueError):
        windowed = bool(dict(record.content.get("made_of") or {}).get("windowed"))
        recipe = result_recipe(segmenter, case, options.dicom_geometry, windowed=windowed)
        return record.content.get("made_of_sha256") == sha256_json(recipe)
    return False
