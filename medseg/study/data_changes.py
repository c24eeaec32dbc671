"""Changes of a dataset during a study: scores of other files are not put into its tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medseg.data.cases import join_problems
from medseg.data.curation.case_statistics import collect_statistics
from medseg.data.options import DataConfig
from medseg.errors import ChangedDataError, DataError
from medseg.files import sha256_json
from medseg.progress import Progress, stage
from medseg.training.dataset.preparation import changes_since, find_labeled_cases
from medseg.training.run_folder.case_record import CaseRecord, RecordedCase, read_record

_MOST_FOLDERS = 5
_MACHINE = {"cache", "workers", "worker_timeout", "split"}
"""Settings that do not decide which files are read."""


@dataclass(frozen=True)
class FinishedRun:
    """A training whose scores a study keeps.

    Attributes:
        folder: its run folder.
        data: its dataset, with the cache of the study.
    """

    folder: Path
    data: DataConfig


def dataset_key(data: DataConfig) -> str:
    """Return a key of the settings that decide which files are read, and how."""
    return sha256_json(data.model_dump(mode="json", exclude=_MACHINE))


def check_data_unchanged(
    root: Path, runs: Sequence[FinishedRun], progress: Progress, *, removable: bool = True
) -> None:
    """Check that the datasets are those that the finished runs of a study were trained and scored on.

    Files are compared by the hashes in the ``cases.json`` of each run; a run without one is not checked.

    Args:
        root: folder of the study.
        runs: the runs.
        progress: receives the measured cases.
        removable: whether a run is trained again if its folder is removed.

    Raises:
        DataError: that lists the cases that were added, changed or removed, or cases that cannot be read.
    """
    found: dict[str, None] = {}
    changed: list[Path] = []
    for data, records in _by_dataset(runs):
        _, plan = find_labeled_cases(data)
        assert data.cache is not None  # set by the study
        with stage(progress, len(plan.cases), "checking cases") as shown:
            facts = collect_statistics(
                plan.cases, data.cache / "facts", plan.reader, plan.foreground, progress=shown
            )
        for run, record in records:
            lines = changes_since(record, run.data, plan.cases, facts)
            found |= dict.fromkeys(lines)
            changed += [run.folder.parent] if lines else []
    if not changed:
        return
    title = f"{root}: the dataset changed since {len(changed)} of {len(runs)} finished runs began"
    hint = "Restore the dataset, or start a new study in another --output folder"
    if removable:
        shown = ", ".join(map(str, changed[:_MOST_FOLDERS]))
        more = len(changed) - _MOST_FOLDERS
        hint += f"; to train these runs again, remove {shown}" + (f" and {more} more" if more > 0 else "")
    raise DataError(join_problems(title, list(found)), hint=f"{hint}.", path=root)


@contextmanager
def advising(hint: str) -> Iterator[None]:
    """Replace the hint of an error about changed cases that the block raises.

    The hint of a training names ``--accept-new-cases``, which commands that continue trainings do not have:
    their runs are compared, and must have the same cases.
    """
    try:
        yield
    except ChangedDataError as error:
        error.hint = hint
        raise


def differing_cases(first: Path, second: Path) -> list[str]:
    """Return the cases of two ``cases.json`` whose files differ; none if one of the records does not exist."""
    one, other = read_record(first), read_record(second)
    if one is None or other is None:
        return []
    return [
        case
        for case, own in one.cases.items()
        if case in other.cases and _hashes(own) != _hashes(other.cases[case])
    ]


def _hashes(case: RecordedCase) -> tuple[str, str | None]:
    return case.image_sha256, case.label_sha256


def _by_dataset(
    runs: Sequence[FinishedRun],
) -> list[tuple[DataConfig, list[tuple[FinishedRun, CaseRecord]]]]:
    """Return each dataset and the runs on it that recorded their cases."""
    groups: dict[str, tuple[DataConfig, list[tuple[FinishedRun, CaseRecord]]]] = {}
    for run in runs:
        record = read_record(run.folder / "cases.json")
        if record is not None:
            groups.setdefault(dataset_key(run.data), (run.data, []))[1].append((run, record))
    return list(groups.values())
