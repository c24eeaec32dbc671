"""The cases a run trains with, as ``cases.json`` records them, and what of them changed since."""

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
from medseg.errors import DataError, TrainingError


@dataclass(frozen=True)
class RecordedCase:
    """The part of the split a case has, and the hashes of its files."""

    part: Part
    image_sha256: str
    label_sha256: str | None


@dataclass(frozen=True)
class CaseRecord:
    """The cases of a run that is continued.

    Attributes:
        path: of ``cases.json``.
        cases: id → what is recorded of it.
        accept_changes: whether the run goes on where the dataset is another one now.
    """

    path: Path
    cases: Mapping[str, RecordedCase]
    accept_changes: bool = False

    def split(self, cases: Sequence[Case], facts: Sequence[CaseStatistics], stated: Split) -> Split:
        """Keep every case in its part; a new one goes where it is ``stated`` to be, to the part of its patient
        or of an identical image, else into the training.
        """
        parts: Split = {case.id: self.cases[case.id].part for case in cases if case.id in self.cases}
        patients: dict[str, Part] = {
            case.patient: parts[case.id] for case in cases if case.patient and case.id in parts
        }
        images: dict[str, Part] = {one.image_sha256: one.part for one in self.cases.values()}
        for case, fact in zip(cases, facts, strict=True):
            if case.id not in parts:
                beside = patients.get(case.patient) if case.patient else None
                place: Part = stated.get(case.id) or beside or images.get(fact.image_sha256) or "train"
                parts[case.id] = place
        return parts

    def changes(self, cases: Sequence[Case], facts: Sequence[CaseStatistics], stated: Split) -> list[str]:
        """What differs between the record and the cases there are now, one line each.

        Raises: DataError listing all of it, unless ``accept_changes`` is set.
        """
        lines: list[str] = []
        for case, fact in zip(cases, facts, strict=True):
            recorded = self.cases.get(case.id)
            lines += [f"case {case.id}: new"] if recorded is None else _changed(case, fact, recorded, stated)
        there = {case.id for case in cases}
        lines += [f"case {i}: gone (it was in {one.part})" for i, one in self.cases.items() if i not in there]
        if lines and not self.accept_changes:
            title = (
                f"{self.path}: the dataset changed since this run began. Restore it, start a new run in "
                "another folder, or continue with --accept-new-cases (in Python accept_new_cases=True), which "
                "keeps every case in its part and trains with the new ones"
            )
            raise DataError(join_problems(title, lines))
        return lines


class Fitted(Spec):
    """What a run took from its dataset when it began, kept while the run goes on (``dataset.json``).

    Attributes:
        labels: with every name.
        channels: of the network's input.
        preprocess: with every number fitted on the training cases.
    """

    labels: LabelSchema
    channels: int
    preprocess: PreprocessConfig

    def check(self, labels: LabelSchema, channels: int) -> None:
        """Raises: DataError if a network of this run does not fit these labels or channels."""
        problems: list[str] = []
        if channels != self.channels:
            problems.append(f"the images have {channels} channels, the run began with {self.channels}")
        if _meaning(labels) != _meaning(self.labels):
            now, then = (", ".join(one.class_names) for one in (labels, self.labels))
            problems.append(f"the labels are {now}; the run began with {then}, or read them otherwise")
        if problems:
            title = "the dataset no longer fits the network of this run; start a new run in another folder"
            raise DataError(join_problems(title, problems))


def read_record(path: Path, *, accept_changes: bool = False) -> CaseRecord | None:
    """Read a run's ``cases.json``; none if there is no such file.

    Raises: TrainingError if it cannot be read.
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
            f"{path}: cannot be read as the record of a run's cases ({error}). Which cases were trained and "
            "which are tested is not known without it: restore it, or start a new run in another folder."
        ) from error
    return CaseRecord(path, cases, accept_changes)


def read_fitted(path: Path) -> Fitted | None:
    """Read a run's ``dataset.json``; none if there is no such file (runs of earlier versions).

    Raises: TrainingError if it cannot be read.
    """
    if not path.is_file():
        return None
    try:
        return Fitted.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, ValidationError) as error:
        raise TrainingError(
            f"{path}: cannot be read ({error}). Restore it, or start a new run in another folder."
        ) from error


def stated_parts(cases: Sequence[Case], split: SplitConfig) -> Split:
    """The parts that a split file, folders or a manifest name; cases that are split by chance are left out.

    Raises: DataError if the split's file cannot be used.
    """
    if isinstance(split, FileSplit):
        return split.assign(list(cases))
    parts: Split = {case.id: case.part for case in cases if case.part is not None}
    if isinstance(split, FolderSplit) or (isinstance(split, AutoSplit) and len(parts) == len(cases)):
        return parts
    if isinstance(split, AutoSplit):  # a test part is taken, the rest is mixed
        return {i: part for i, part in parts.items() if part == "test"}
    return {}


def _changed(case: Case, fact: CaseStatistics, recorded: RecordedCase, stated: Split) -> list[str]:
    lines: list[str] = []
    if fact.image_sha256 != recorded.image_sha256:
        lines.append(f"case {case.id}: another image")
    if fact.label_sha256 != recorded.label_sha256:
        lines.append(f"case {case.id}: another label map")
    part = stated.get(case.id, recorded.part)
    # where there is no folder val, some cases of the folder train validate
    if part != recorded.part and (part, recorded.part) != ("train", "val"):
        lines.append(f"case {case.id}: now stated to be in {part}, it is in {recorded.part}")
    return lines


def _part(value: str) -> Part:
    for part in PARTS:
        if value == part:
            return part
    raise ValueError(f"{value!r} is no part")


def _meaning(labels: LabelSchema) -> dict[str, Any]:
    """All that a network's classes depend on."""
    return {
        "order": list(labels.names),
        **labels.model_dump(mode="json", exclude={"colors", "terminology", "pairs"}),
    }
