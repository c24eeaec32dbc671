"""The record of the cases of a run (``cases.json``), and what changed since it was written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from medseg.config.base import Spec
from medseg.data.cases import PARTS, Case, Part, join_problems
from medseg.data.curation.case_statistics import CaseStatistics
from medseg.data.curation.splits import AutoSplit, FileSplit, FolderSplit, Split, SplitConfig
from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.errors import ChangedDataError, DataError, TrainingError


@dataclass(frozen=True)
class RecordedCase:
    """The part of the split of a case, and the hashes of its files."""

    part: Part
    image_sha256: str
    label_sha256: str | None


@dataclass(frozen=True)
class CaseRecord:
    """The cases of a run that is resumed.

    Attributes:
        path: of ``cases.json``.
        cases: id → recorded case.
        accept_changes: whether the run may continue with a changed dataset.
    """

    path: Path
    cases: Mapping[str, RecordedCase]
    accept_changes: bool = False

    def split(self, cases: Sequence[Case], facts: Sequence[CaseStatistics], declared: Split) -> Split:
        """Keep every case in its part, and assign a part to the new ones.

        A new case gets its declared part, else the part of its patient or of an identical image, else it
        trains.

        Args:
            cases: the cases of the dataset.
            facts: their statistics, in the same order.
            declared: case id → part, where files or folders declare it.
        """
        parts: Split = {case.id: self.cases[case.id].part for case in cases if case.id in self.cases}
        patients: dict[str, Part] = {
            case.patient: parts[case.id] for case in cases if case.patient and case.id in parts
        }
        images: dict[str, Part] = {one.image_sha256: one.part for one in self.cases.values()}
        for case, fact in zip(cases, facts, strict=True):
            if case.id not in parts:
                beside = patients.get(case.patient) if case.patient else None
                part: Part = declared.get(case.id) or beside or images.get(fact.image_sha256) or "train"
                parts[case.id] = part
        return parts

    def changes(self, cases: Sequence[Case], facts: Sequence[CaseStatistics], declared: Split) -> list[str]:
        """Return the differences between the record and the dataset, one line each.

        Raises:
            ChangedDataError: that lists them, unless ``accept_changes`` is set.
        """
        lines: list[str] = []
        for case, fact in zip(cases, facts, strict=True):
            recorded = self.cases.get(case.id)
            lines += (
                [f"case {case.id}: new"]
                if recorded is None
                else _changes_of_case(case, fact, recorded, declared)
            )
        present = {case.id for case in cases}
        lines += [
            f"case {i}: missing (it was in {one.part})" for i, one in self.cases.items() if i not in present
        ]
        if lines and not self.accept_changes:
            title = f"{self.path}: the dataset changed since the start of this run"
            hint = (
                "Restore the dataset, start a new run in another folder, or continue with --accept-new-cases "
                "(in Python accept_new_cases=True): every case keeps its part, and new ones train."
            )
            raise ChangedDataError(join_problems(title, lines), hint=hint, path=self.path)
        return lines


class FittedSettings(Spec):
    """What a run fits to its dataset at its start and keeps until its end (``dataset.json``).

    Attributes:
        labels: all label names.
        channels: of the input of the network.
        preprocess: with every number that is fitted on the training cases.
    """

    labels: LabelSchema
    channels: int
    preprocess: PreprocessConfig

    def check(self, labels: LabelSchema, channels: int) -> None:
        """Check that the network of the run fits labels and channels of the dataset.

        Raises:
            DataError: if it does not.
        """
        problems: list[str] = []
        if channels != self.channels:
            problems.append(
                f"the images have {channels} channels, they had {self.channels} at the start of the run"
            )
        if _meaning(labels) != _meaning(self.labels):
            now, then = (", ".join(one.class_names) for one in (labels, self.labels))
            problems.append(
                f"the labels are {now}; at the start of the run they were {then}, or read differently"
            )
        if problems:
            title = "the dataset no longer fits the network of this run"
            raise DataError(join_problems(title, problems), hint="Start a new run in another folder.")


def read_record(path: Path, *, accept_changes: bool = False) -> CaseRecord | None:
    """Read the ``cases.json`` of a run; return None if the file does not exist.

    Raises:
        TrainingError: if it cannot be read.
    """
    if not path.is_file():
        return None
    try:
        entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        cases = {
            str(e["id"]): RecordedCase(_part(e["part"]), e["image_sha256"], e["label_sha256"]) for e in entries
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{path}: not a valid record of the cases of a run ({error}); without it, the split is unknown",
            hint="Restore the file, or start a new run in another folder.",
            path=path,
        ) from error
    return CaseRecord(path, cases, accept_changes)


def read_fitted(path: Path) -> FittedSettings | None:
    """Read the ``dataset.json`` of a run; return None if the file does not exist (runs of earlier versions).

    Raises:
        TrainingError: if it cannot be read.
    """
    if not path.is_file():
        return None
    try:
        return FittedSettings.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, ValidationError) as error:
        raise TrainingError(
            f"{path}: cannot be read ({error})",
            hint="Restore the file, or start a new run in another folder.",
            path=path,
        ) from error


def declared_parts(cases: Sequence[Case], split: SplitConfig) -> Split:
    """Return the parts that a split file, folders or a manifest declare, without the cases split at random.

    Raises:
        DataError: if the split file cannot be used.
    """
    if isinstance(split, FileSplit):
        return split.assign(list(cases))
    parts: Split = {case.id: case.part for case in cases if case.part is not None}
    if isinstance(split, FolderSplit) or (isinstance(split, AutoSplit) and len(parts) == len(cases)):
        return parts
    if isinstance(split, AutoSplit):  # a declared test part is kept, the rest is split at random
        return {i: part for i, part in parts.items() if part == "test"}
    return {}


def _changes_of_case(case: Case, fact: CaseStatistics, recorded: RecordedCase, declared: Split) -> list[str]:
    lines: list[str] = []
    if fact.image_sha256 != recorded.image_sha256:
        lines.append(f"case {case.id}: image changed")
    if fact.label_sha256 != recorded.label_sha256:
        lines.append(f"case {case.id}: label map changed")
    part = declared.get(case.id, recorded.part)
    # without a folder val, some cases of the folder train are validation cases
    if part != recorded.part and (part, recorded.part) != ("train", "val"):
        lines.append(f"case {case.id}: now declared as {part}, it was {recorded.part}")
    return lines


def _part(value: str) -> Part:
    for part in PARTS:
        if value == part:
            return part
    raise ValueError(f"{value!r} is not a part of a split")


def _meaning(labels: LabelSchema) -> dict[str, Any]:
    """Return everything that the classes of a network depend on."""
    return {
        "order": list(labels.names),
        **labels.model_dump(mode="json", exclude={"colors", "terminology", "pairs"}),
    }
