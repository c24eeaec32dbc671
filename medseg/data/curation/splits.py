"""Assign cases to the parts of a split: training, validation and test.

All cases of a patient are in one part. With ``stratify``, rare labels are distributed evenly over the parts.
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
from medseg.data.curation.stratification import stratified_parts
from medseg.errors import DataError

Split = dict[str, Part]
"""Case id → part."""

CaseLabels = Mapping[str, frozenset[str]]
"""Case id → names of the labels in the case."""


class FractionSplit(Spec):
    """Random parts of given sizes, counted in patients if the dataset declares them.

    Attributes:
        val, test: share of the validation and the test part.
        seed: seed of the shuffle.
        stratify: distribute rare labels evenly, the rarest first.
    """

    name: Literal["fraction"] = "fraction"
    val: float = Field(default=0.1, ge=0, lt=1)
    test: float = Field(default=0.2, ge=0, lt=1)
    seed: int = 0
    stratify: bool = False

    def assign(self, cases: list[Case], case_labels: CaseLabels = {}) -> Split:  # noqa: B006 (never changed)
        """Split by a seeded shuffle; each part with a share above 0 gets at least one patient.

        Args:
            cases: the cases to split.
            case_labels: the labels of each case, used with ``stratify``.

        Raises:
            DataError: no case is left to train on.
        """
        groups = _groups(cases)
        names = _shuffled(groups, self.seed)
        test, val = _share(self.test, len(names)), _share(self.val, len(names))
        if self.stratify:
            sizes = [len(names) - test - val, val, test]
            return _parts(groups, *stratified_parts(names, sizes, _group_labels(groups, case_labels)))
        return _parts(groups, names[test + val :], names[test : test + val], names[:test])


class FoldSplit(Spec):
    """k-fold cross-validation on the cases that are not in the test part.

    Attributes:
        folds: number of folds.
        fold: index of the validation fold, from 0.
        test: share of the test part, which is the same for all folds.
        seed: seed of the shuffle.
        stratify: distribute rare labels evenly, the rarest first.
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
            raise ValueError(f"fold is {self.fold}, expected 0 to {self.folds - 1} (folds is {self.folds})")
        return self

    def assign(self, cases: list[Case], case_labels: CaseLabels = {}) -> Split:  # noqa: B006
        """Validate on fold ``fold``, train on the others.

        Over all folds, every case outside the test part is a validation case exactly once.

        Raises:
            DataError: there are fewer patients (or cases) than folds.
        """
        groups = _groups(cases)
        names = _shuffled(groups, self.seed)
        test = _share(self.test, len(names))
        tested, rest = names[:test], names[test:]
        if len(rest) < self.folds:
            what = "patients" if any(case.patient for case in cases) else "cases"
            kept = f", without {len(tested)} of the test part," if tested else ""
            raise DataError(
                f"{len(rest)} {what}{kept} are too few for {self.folds} folds",
                hint="Set data.split.folds lower (medseg study cv: --folds).",
            )
        if self.stratify:
            labels = _group_labels(groups, case_labels)
            rest, tested = stratified_parts(names, [len(names) - test, test], labels)
            sizes = [len(rest) // self.folds + (i < len(rest) % self.folds) for i in range(self.folds)]
            val = stratified_parts(rest, sizes, labels)[self.fold]
        else:
            val = rest[self.fold :: self.folds]
        return _parts(groups, [name for name in rest if name not in val], val, tested)


class FolderSplit(Spec):
    """Parts given by the folders ``train``, ``val`` and ``test``, or by the column ``split`` of a manifest.

    Attributes:
        val: share of the training cases that become validation cases if no case is in ``val``.
        seed: seed of their selection.
    """

    name: Literal["folder"] = "folder"
    val: float = Field(default=0.1, ge=0, lt=1)
    seed: int = 0

    def assign(self, cases: list[Case], case_labels: CaseLabels = {}) -> Split:  # noqa: B006
        """Return the part that each case declares.

        Raises:
            DataError: a case declares no part, or none is a training case.
        """
        if any(case.part is None for case in cases):
            raise DataError(
                "data.split is folder, but images/ contains no folders train, val or test",
                hint="Set data.split.name=fraction, or sort the cases into these folders.",
            )
        split: Split = {case.id: case.part for case in cases if case.part is not None}
        if "val" not in split.values():
            groups = _groups([case for case in cases if case.part == "train"])
            names = _shuffled(groups, self.seed)
            chosen = names[: min(_share(self.val, len(names)), len(names) - 1)]  # keep at least one to train on
            split |= {case_id: "val" for name in chosen for case_id in groups[name]}
        if "train" not in split.values():
            raise DataError("no training case: images/train is empty")
        return split


class FileSplit(Spec):
    """Parts listed in a file.

    Attributes:
        file: JSON (case id → part, or part → list of ids), the ``cases.json`` of another run, or CSV with the
            columns ``id`` and ``split``.
        unmatched: cases that the file does not list, and listed ones that do not exist, are an error
            (``refuse``) or take no part (``leave_out``).
    """

    name: Literal["file"] = "file"
    file: Path
    unmatched: Literal["refuse", "leave_out"] = "refuse"

    def parts(self) -> Split:
        """Read the part of each case from the file.

        Raises:
            DataError: the file cannot be read.
        """
        return _read_split(self.file)

    def assign(self, cases: list[Case], case_labels: CaseLabels = {}) -> Split:  # noqa: B006
        """Return the part that the file lists for each case.

        Raises:
            DataError: the file cannot be read, its ids are not those of the cases, or none is in train.
        """
        table: Split = self.parts()
        if self.unmatched == "leave_out":
            table = {case.id: table[case.id] for case in cases if case.id in table}
        missing = sorted({case.id for case in cases} - table.keys())
        unknown = sorted(table.keys() - {case.id for case in cases})
        if self.unmatched == "refuse" and (missing or unknown):
            raise DataError(
                f"{self.file}: does not match the cases of the dataset; missing: {_shortened(missing)}; not in "
                f"the dataset: {_shortened(unknown)}",
                path=self.file,
            )
        if "train" not in table.values():
            raise DataError(f"{self.file}: lists no training case", path=self.file)
        return table


class AutoSplit(Spec):
    """``folder`` if the folders (or the manifest) declare a part for every case, else ``fraction``.

    If only a test part is declared, it is kept and the other cases are split at random.

    Attributes:
        val, test, seed, stratify: as in ``fraction``.
    """

    name: Literal["auto"] = "auto"
    val: float = Field(default=0.1, ge=0, lt=1)
    test: float = Field(default=0.2, ge=0, lt=1)
    seed: int = 0
    stratify: bool = False

    def assign(self, cases: list[Case], case_labels: CaseLabels = {}) -> Split:  # noqa: B006
        """Choose a way to split, and return the part of each case."""
        tested = [case for case in cases if case.part == "test"]
        rest = [case for case in cases if case.part != "test"]
        if all(case.part is not None for case in rest) and rest:
            return FolderSplit(val=self.val, seed=self.seed).assign(cases)
        if tested:  # only the test part is declared, for example imagesTs of a challenge
            split = FractionSplit(val=self.val, test=0, seed=self.seed, stratify=self.stratify).assign(
                rest, case_labels
            )
            split.update((case.id, "test") for case in tested)
            return split
        split = FractionSplit(val=self.val, test=self.test, seed=self.seed, stratify=self.stratify)
        return split.assign(cases, case_labels)


SplitConfig = Annotated[
    AutoSplit | FractionSplit | FoldSplit | FolderSplit | FileSplit, Field(discriminator="name")
]


def patients_in_several_parts(cases: list[Case], split: Split) -> dict[str, list[str]]:
    """Return the patients whose cases are in more than one part: patient → parts."""
    parts: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        if case.patient is not None:
            parts[case.patient].add(split[case.id])
    return {patient: sorted(found) for patient, found in sorted(parts.items()) if len(found) > 1}


def _groups(cases: list[Case]) -> dict[str, list[str]]:
    """Group ids by patient; a case without a patient is a group by itself."""
    groups: dict[str, list[str]] = defaultdict(list)
    for case in sorted(cases, key=lambda c: c.id):
        groups[case.id if case.patient is None else f"patient {case.patient}"].append(case.id)
    return dict(groups)


def _group_labels(groups: Mapping[str, list[str]], case_labels: CaseLabels) -> dict[str, frozenset[str]]:
    return {
        group: frozenset().union(*(case_labels.get(i, frozenset()) for i in ids))
        for group, ids in groups.items()
    }


def _shuffled(groups: Mapping[str, list[str]], seed: int) -> list[str]:
    names = sorted(groups)
    order = np.random.default_rng(seed).permutation(len(names))
    return [names[i] for i in order]


def _share(fraction: float, count: int) -> int:
    return max(1, round(fraction * count)) if fraction > 0 else 0


def _parts(groups: Mapping[str, list[str]], train: list[str], val: list[str], test: list[str]) -> Split:
    if not train:
        raise DataError(
            f"the split leaves no case to train on (validation: {len(val)}, test: {len(test)})",
            hint="Lower data.split.val or data.split.test, or add cases.",
        )
    split: Split = {}
    for part, names in zip(PARTS, (train, val, test), strict=True):
        split |= {case_id: part for name in names for case_id in groups[name]}
    return split


def _read_split(path: Path) -> Split:
    try:
        rows = _split_rows(path)
        table: dict[str, Any] = dict(rows)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise DataError(
            f"{path}: expected JSON of case id → part (or part → ids), or CSV with the columns id and split "
            f"({error})",
            path=path,
        ) from error
    twice = next((i for i, part in rows if part != table[i]), None)
    if twice is not None:
        raise DataError(f"{path}: the case {twice} is in several parts", hint="List each case once.", path=path)
    wrong = sorted({str(part) for part in table.values()} - set(PARTS))
    if wrong:
        raise DataError(f"{path}: expected the parts train, val and test, got {wrong}", path=path)
    return {str(i): cast(Part, part) for i, part in table.items()}


def _split_rows(path: Path) -> list[tuple[str, Any]]:
    """Return case and part, for each line of a table or entry of JSON."""
    if path.suffix.lower() == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return [(row["id"], row["split"]) for row in csv.DictReader(stream)]
    content: Any = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(content, list):  # cases.json
        return [(entry["id"], entry["part"]) for entry in cast(list[dict[str, Any]], content)]
    if all(isinstance(value, list) for value in content.values()):
        return [(i, part) for part, ids in content.items() for i in ids]
    return list(content.items())


def _shortened(names: list[str]) -> str:
    return (", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")) or "none"
