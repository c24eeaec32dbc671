"""Which cases train, which validate, and which are kept for the test.

Cases of one patient stay together. Where asked for, rare labels are dealt out evenly.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np
from pydantic import Field, model_validator

from medseg.config.base import Spec
from medseg.data.cases import PARTS, Case, Part
from medseg.data.curation.stratification import deal
from medseg.errors import DataError

Split = dict[str, Part]
"""Case id → part."""

Holders = Mapping[str, frozenset[str]]
"""Case id → names of the labels it holds."""


class FractionSplit(Spec):
    """Random parts of given size, counted in patients where these are known.

    Attributes:
        val, test: shares of all.
        stratify: deal rare labels out evenly, the rarest first.
    """

    name: Literal["fraction"] = "fraction"
    val: float = Field(default=0.1, ge=0, lt=1)
    test: float = Field(default=0.2, ge=0, lt=1)
    seed: int = 0
    stratify: bool = False

    def assign(self, cases: list[Case], holders: Holders = {}) -> Split:  # noqa: B006 (never changed)
        """Split by a seeded shuffle; each part asked for gets at least one patient."""
        groups = _groups(cases)
        names = _shuffled(groups, self.seed)
        test, val = _share(self.test, len(names)), _share(self.val, len(names))
        if self.stratify:
            dealt = deal(names, [len(names) - test - val, val, test], _held(groups, holders))
            return _parts(groups, *dealt)
        return _parts(groups, names[test + val :], names[test : test + val], names[:test])


class FoldSplit(Spec):
    """k-fold cross-validation, after setting a test part aside.

    Attributes:
        folds, fold: how many, and which one validates.
        test: share of the test part, the same for all folds.
        stratify: deal rare labels out evenly, the rarest first.
    """

    name: Literal["folds"] = "folds"
    folds: int = Field(default=5, ge=2)
    fold: int = Field(default=0, ge=0)
    test: float = Field(default=0.0, ge=0, lt=1)
    seed: int = 0
    stratify: bool = False

    @model_validator(mode="after")
    def _in_range(self) -> FoldSplit:
        if self.fold >= self.folds:
            raise ValueError(f"fold {self.fold} of {self.folds} folds; they count from 0 to {self.folds - 1}")
        return self

    def assign(self, cases: list[Case], holders: Holders = {}) -> Split:  # noqa: B006
        """Fold ``fold`` validates, the others train; over all folds every case validates exactly once."""
        groups = _groups(cases)
        names = _shuffled(groups, self.seed)
        test = _share(self.test, len(names))
        tested, rest = names[:test], names[test:]
        if len(rest) < self.folds:
            what = "patients" if any(case.patient for case in cases) else "cases"
            raise DataError(f"{len(rest)} {what} cannot make {self.folds} folds; set data.split.folds lower")
        if self.stratify:
            held = _held(groups, holders)
            rest, tested = deal(names, [len(names) - test, test], held)
            sizes = [len(rest) // self.folds + (i < len(rest) % self.folds) for i in range(self.folds)]
            val = deal(rest, sizes, held)[self.fold]
        else:
            val = rest[self.fold :: self.folds]
        return _parts(groups, [name for name in rest if name not in val], val, tested)


class FolderSplit(Spec):
    """Parts by the folders ``train``, ``val`` and ``test`` the cases stand in, or as a manifest says.

    Where there is no ``val``, ``val`` of the training cases validate.
    """

    name: Literal["folder"] = "folder"
    val: float = Field(default=0.1, ge=0, lt=1)
    seed: int = 0

    def assign(self, cases: list[Case], holders: Holders = {}) -> Split:  # noqa: B006
        """Take the folders' word."""
        if any(case.part is None for case in cases):
            raise DataError("data.split is by folder, but images/ holds no train, val or test folders")
        split: Split = {case.id: case.part for case in cases if case.part is not None}
        if "val" not in split.values():
            groups = _groups([case for case in cases if case.part == "train"])
            names = _shuffled(groups, self.seed)
            chosen = names[: min(_share(self.val, len(names)), len(names) - 1)]  # one at least trains
            split |= {case_id: "val" for name in chosen for case_id in groups[name]}
        if "train" not in split.values():
            raise DataError("no case stands in images/train")
        return split


class FileSplit(Spec):
    """Parts from a file, kept beside the data or shared with others.

    Attributes:
        file: JSON, case id → part or part → list of ids, or another run's ``cases.json``; or CSV with the
            columns ``id`` and ``split``.
    """

    name: Literal["file"] = "file"
    file: Path

    def parts(self) -> Split:
        """What the file says. Raises: DataError if it cannot be read."""
        return _read_split(self.file)

    def assign(self, cases: list[Case], holders: Holders = {}) -> Split:  # noqa: B006
        """Take the file's word.

        Raises: DataError if it cannot be read, or names not exactly the cases there are.
        """
        table = self.parts()
        lacking = sorted({case.id for case in cases} - table.keys())
        foreign = sorted(table.keys() - {case.id for case in cases})
        if lacking or foreign:
            raise DataError(
                f"{self.file}: does not name the cases there are: it lacks {_few(lacking)}, and names "
                f"{_few(foreign)} that are not there"
            )
        if "train" not in table.values():
            raise DataError(f"{self.file}: puts no case into train")
        return table


class AutoSplit(Spec):
    """By folder (or manifest) where this puts every case into a part, else by fraction.

    Attributes:
        val, test, stratify: as in ``fraction``.
    """

    name: Literal["auto"] = "auto"
    val: float = Field(default=0.1, ge=0, lt=1)
    test: float = Field(default=0.2, ge=0, lt=1)
    seed: int = 0
    stratify: bool = False

    def assign(self, cases: list[Case], holders: Holders = {}) -> Split:  # noqa: B006
        """Choose and assign."""
        tested = [case for case in cases if case.part == "test"]
        rest = [case for case in cases if case.part != "test"]
        if all(case.part is not None for case in rest) and rest:
            return FolderSplit(val=self.val, seed=self.seed).assign(cases)
        if tested:  # a test part given, the others mixed: imagesTs of a challenge
            split = FractionSplit(val=self.val, test=0, seed=self.seed, stratify=self.stratify).assign(
                rest, holders
            )
            split.update((case.id, "test") for case in tested)
            return split
        split = FractionSplit(val=self.val, test=self.test, seed=self.seed, stratify=self.stratify)
        return split.assign(cases, holders)


SplitConfig = Annotated[
    AutoSplit | FractionSplit | FoldSplit | FolderSplit | FileSplit, Field(discriminator="name")
]


def leaks(cases: list[Case], split: Split) -> dict[str, list[str]]:
    """Patients whose cases stand in more than one part: patient → parts."""
    parts: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        if case.patient is not None:
            parts[case.patient].add(split[case.id])
    return {patient: sorted(found) for patient, found in sorted(parts.items()) if len(found) > 1}


def _groups(cases: list[Case]) -> dict[str, list[str]]:
    """Ids by patient; a case without one is a group of its own."""
    groups: dict[str, list[str]] = defaultdict(list)
    for case in sorted(cases, key=lambda c: c.id):
        groups[case.id if case.patient is None else f"patient {case.patient}"].append(case.id)
    return dict(groups)


def _held(groups: Mapping[str, list[str]], holders: Holders) -> dict[str, frozenset[str]]:
    return {g: frozenset().union(*(holders.get(i, frozenset()) for i in ids)) for g, ids in groups.items()}


def _shuffled(groups: Mapping[str, list[str]], seed: int) -> list[str]:
    names = sorted(groups)
    order = np.random.default_rng(seed).permutation(len(names))
    return [names[i] for i in order]


def _share(fraction: float, count: int) -> int:
    return max(1, round(fraction * count)) if fraction > 0 else 0


def _parts(groups: Mapping[str, list[str]], train: list[str], val: list[str], test: list[str]) -> Split:
    if not train:
        raise DataError(
            f"the split leaves no case to train on ({len(val)} validate, {len(test)} test); "
            "lower data.split.val or data.split.test, or add cases"
        )
    split: Split = {}
    for part, names in zip(PARTS, (train, val, test), strict=True):
        split |= {case_id: part for name in names for case_id in groups[name]}
    return split


def _read_split(path: Path) -> Split:
    try:
        if path.suffix.lower() == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as stream:
                table: dict[str, Any] = {row["id"]: row["split"] for row in csv.DictReader(stream)}
        else:
            content: Any = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(content, list):  # cases.json
                content = {entry["id"]: entry["part"] for entry in cast(list[dict[str, Any]], content)}
            lists = all(isinstance(v, list) for v in content.values())
            table = {i: part for part, ids in content.items() for i in ids} if lists else content
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise DataError(
            f"{path}: expected JSON of case id → part (or part → ids), or CSV with id and split ({error})"
        ) from error
    parts: dict[str, Any] = table
    wrong = sorted({str(part) for part in table.values()} - set(PARTS))
    if wrong:
        raise DataError(f"{path}: the parts are train, val and test; got {wrong}")
    return {str(i): cast(Part, part) for i, part in parts.items()}


def _few(names: list[str]) -> str:
    return (", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")) or "none"
