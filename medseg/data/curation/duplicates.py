"""Find cases with the same image; keep them in one part of a split, or drop all but one."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from typing import Literal

from medseg.data.cases import Case, Part, join_problems
from medseg.data.curation.case_statistics import CaseStatistics
from medseg.errors import DataError

Duplicates = Literal["refuse", "group", "drop"]
"""Treatment of copies: an error, all in one part of the split, or all but one dropped."""

_KEPT_FIRST: tuple[Part, ...] = ("test", "val", "train")


def find_copies(facts: Iterable[CaseStatistics], unmeasured: Mapping[str, str] = {}) -> list[list[str]]:
    """Group cases whose images are the same, in bytes or in voxels.

    Args:
        facts: statistics of cases. Images of one value (blank slices) do not count as copies.
        unmeasured: case → digest of the image's bytes, for cases without statistics.

    Returns:
        The groups of two or more ids.
    """
    first: dict[str, str] = {}
    leader: dict[str, str] = {}

    def leader_of(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    digests = [(f.id, (f.image_sha256, f.voxels_sha256)) for f in facts if f.intensities[0] < f.intensities[1]]
    for name, own in [*digests, *((name, (digest,)) for name, digest in unmeasured.items())]:
        leader[name] = name
        for digest in own:
            leader[leader_of(name)] = leader_of(first.setdefault(digest, name))
    groups: dict[str, list[str]] = {}
    for name in leader:
        groups.setdefault(leader_of(name), []).append(name)
    return [sorted(ids) for ids in groups.values() if len(ids) > 1]


def check_copies(copies: list[list[str]]) -> None:
    """Check that there are no copies.

    Raises:
        DataError: there are copies; the message lists them.
    """
    if copies:
        raise DataError(
            join_problems(
                "cases whose images are the same (data.duplicates=group keeps them in one part of the split, "
                "drop keeps one of each)",
                [", ".join(ids) for ids in copies],
            )
        )


def bind_copies(cases: list[Case], copies: list[list[str]]) -> list[Case]:
    """Give copies, and the patients they connect, a common patient, so that a split keeps them together."""
    copied = {name for ids in copies for name in ids}
    patients: dict[str | None, set[str]] = {case.patient: set() for case in cases if case.id in copied}
    patients.pop(None, None)
    for case in cases:
        if case.patient in patients:
            patients[case.patient].add(case.id)
    joined: list[set[str]] = []
    for group in [*(set(ids) for ids in copies), *patients.values()]:
        touching = [other for other in joined if other & group]
        joined = [other for other in joined if not other & group] + [group.union(*touching)]
    shared = {name: f"copies of {min(group)}" for group in joined for name in group}
    return [replace(case, patient=shared.get(case.id, case.patient)) for case in cases]


def check_sides(copies: list[list[str]], split: Mapping[str, Part]) -> None:
    """Check that no copies are in several parts of a split; cases that the split leaves out do not count.

    Raises:
        DataError: copies are in several parts; the message lists them.
    """
    groups = [[name for name in ids if name in split] for ids in copies]
    lines = [
        ", ".join(f"{name} in {split[name]}" for name in ids)
        for ids in groups
        if len({split[name] for name in ids}) > 1
    ]
    if lines:
        raise DataError(
            join_problems(
                "copies of an image are in several parts of the split, which makes scores too good (put them "
                "into one part, or set data.duplicates=drop)",
                lines,
            )
        )


def surplus_copies(copies: list[list[str]], split: Mapping[str, Part]) -> set[str]:
    """Return the cases to drop so that one of each group remains, preferably of test, then validation."""
    dropped: set[str] = set()
    for ids in copies:
        kept = min(
            (name for name in ids if name in split),
            key=lambda name: (_KEPT_FIRST.index(split[name]), name),
            default=None,
        )
        dropped |= set(ids) - {kept}
    return dropped


def unrecorded_copies(copies: list[list[str]], recorded: Container[str]) -> set[str]:
    """Return the cases to drop when a run is resumed that has recorded a copy of them."""
    groups = [ids for ids in copies if any(name in recorded for name in ids)]
    return {name for ids in groups for name in ids if name not in recorded}


def describe_copies(copies: list[list[str]], duplicates: Duplicates) -> str:
    """Describe the copies and their treatment in one line for the log."""
    shown = "; ".join(", ".join(ids) for ids in copies[:5])
    more = f"; and {len(copies) - 5} more" if len(copies) > 5 else ""
    done = "one of each is kept" if duplicates == "drop" else "they stay in one part of the split"
    return f"warning: cases with the same image ({shown}{more}): {done}"
