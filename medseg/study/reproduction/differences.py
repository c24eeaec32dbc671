"""What differs between a run and now: cases, code, versions, hardware."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from medseg.data.curation.case_statistics import CaseStatistics
from medseg.training.run_folder.case_record import RecordedCase

Change = Literal["image changed", "label changed", "missing", "added"]
Topic = Literal["code", "versions", "hardware"]

_TOPICS: Mapping[str, Topic] = {
    "source_sha256": "code",
    "python": "versions",
    "system": "versions",
    "device": "hardware",
    "cuda_device": "hardware",
    "cpu": "hardware",
    "cpu_capability": "hardware",
    "threads": "hardware",
    "processes": "hardware",
}
_UNRECORDED = {"processes": 1}
"""Values of facts that earlier versions did not record."""
_SHOWN_DIGITS = 12


@dataclass(frozen=True)
class CaseChange:
    """A case that differs from the record.

    Attributes:
        case: id of the case.
        change: what differs.
    """

    case: str
    change: Change


@dataclass(frozen=True)
class Difference:
    """A fact that differs from the record.

    Attributes:
        topic: what kind of fact it is.
        name: name of the fact, such as ``torch`` or ``cpu``.
        recorded: its value in the run; None if the run did not record it.
        current: its value now.
    """

    topic: Topic
    name: str
    recorded: str | None
    current: str | None

    def describe(self) -> str:
        """Return the fact with both values."""
        recorded = "not recorded" if self.recorded is None else self.recorded
        return f"{self.name}: {recorded} → {self.current or 'none'}"


def compare_cases(recorded: Mapping[str, RecordedCase], current: Iterable[CaseStatistics]) -> list[CaseChange]:
    """Return what changed in the cases of a run, by the hashes of their files; sorted by case."""
    changes: list[CaseChange] = []
    present: set[str] = set()
    for facts in current:
        present.add(facts.id)
        before = recorded.get(facts.id)
        if before is None:
            changes.append(CaseChange(facts.id, "added"))
            continue
        if facts.image_sha256 != before.image_sha256:
            changes.append(CaseChange(facts.id, "image changed"))
        if facts.label_sha256 != before.label_sha256:
            changes.append(CaseChange(facts.id, "label changed"))
    changes += [CaseChange(case, "missing") for case in recorded if case not in present]
    return sorted(changes, key=lambda one: (one.case, one.change))


def compare_environments(recorded: Mapping[str, Any], current: Mapping[str, Any]) -> list[Difference]:
    """Return the facts of ``environment.json`` that differ, code first."""
    differences: list[Difference] = []
    for name, topic in _TOPICS.items():
        before, now = (facts.get(name, _UNRECORDED.get(name)) for facts in (recorded, current))
        if before != now:
            differences.append(Difference(topic, name, _text(before), _text(now)))
    packages, installed = recorded.get("packages") or {}, current.get("packages") or {}
    for name in dict.fromkeys([*packages, *installed]):
        before, now = packages.get(name), installed.get(name)
        if before != now:
            topic: Topic = "code" if name == "medseg" else "versions"
            differences.append(Difference(topic, name, _text(before), _text(now)))
    order: list[Topic] = ["code", "versions", "hardware"]
    return sorted(differences, key=lambda one: order.index(one.topic))


def _text(value: Any) -> str | None:
    """Return a fact as text; digests are shortened."""
    if value is None or value == "":
        return None
    text = str(value)
    return text[:_SHOWN_DIGITS] if len(text) == 64 else text
