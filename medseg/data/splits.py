"""Which cases train, which validate, and which are kept for the test."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from medseg.data.cases import Case, Part
from medseg.errors import DataError
from medseg.spec import Spec

Split = dict[str, Part]
"""Case id → part."""


class FractionSplit(Spec):
    """Random parts of given size."""

    name: Literal["fraction"] = "fraction"
    val: float = Field(default=0.1, ge=0, lt=1)
    test: float = Field(default=0.2, ge=0, lt=1)
    seed: int = 0

    def assign(self, cases: list[Case]) -> Split:
        """Split by a seeded shuffle; each part asked for gets at least one case."""
        ids = _shuffled(cases, self.seed)
        test = _share(self.test, len(ids))
        val = _share(self.val, len(ids))
        return _parts(ids[test + val :], ids[test : test + val], ids[:test])


class FoldSplit(Spec):
    """k-fold cross-validation, after setting a test part aside."""

    name: Literal["folds"] = "folds"
    folds: int = Field(default=5, ge=2)
    fold: int = Field(default=0, ge=0)
    test: float = Field(default=0.0, ge=0, lt=1)
    seed: int = 0

    @model_validator(mode="after")
    def _in_range(self) -> FoldSplit:
        if self.fold >= self.folds:
            raise ValueError(f"fold {self.fold} of {self.folds} folds; they count from 0 to {self.folds - 1}")
        return self

    def assign(self, cases: list[Case]) -> Split:
        """Fold ``fold`` validates, the others train; over all folds every case validates exactly once."""
        ids = _shuffled(cases, self.seed)
        test = _share(self.test, len(ids))
        rest = ids[test:]
        if len(rest) < self.folds:
            raise DataError(f"{len(rest)} cases cannot make {self.folds} folds; set data.split.folds lower")
        val = rest[self.fold :: self.folds]
        return _parts([i for i in rest if i not in val], val, ids[:test])


class FolderSplit(Spec):
    """Parts by the folders ``train``, ``val`` and ``test`` the cases stand in.

    Where there is no ``val`` folder, ``val`` of the training cases validate.
    """

    name: Literal["folder"] = "folder"
    val: float = Field(default=0.1, ge=0, lt=1)
    seed: int = 0

    def assign(self, cases: list[Case]) -> Split:
        """Take the folders' word."""
        if any(case.part is None for case in cases):
            raise DataError("data.split is by folder, but images/ holds no train, val or test folders")
        split: Split = {case.id: case.part for case in cases if case.part is not None}
        if "val" not in split.values():
            training = [case for case in cases if case.part == "train"]
            ids = _shuffled(training, self.seed)
            split |= dict.fromkeys(ids[: _share(self.val, len(ids))], "val")
        if "train" not in split.values():
            raise DataError("no case stands in images/train")
        return split


class AutoSplit(Spec):
    """By folder where there are ``train``/``val``/``test`` folders, else by fraction."""

    name: Literal["auto"] = "auto"
    val: float = Field(default=0.1, ge=0, lt=1)
    test: float = Field(default=0.2, ge=0, lt=1)
    seed: int = 0

    def assign(self, cases: list[Case]) -> Split:
        """Choose and assign."""
        if all(case.part is not None for case in cases):
            return FolderSplit(val=self.val, seed=self.seed).assign(cases)
        return FractionSplit(val=self.val, test=self.test, seed=self.seed).assign(cases)


SplitConfig = Annotated[AutoSplit | FractionSplit | FoldSplit | FolderSplit, Field(discriminator="name")]


def _shuffled(cases: list[Case], seed: int) -> list[str]:
    ids = sorted(case.id for case in cases)
    order = np.random.default_rng(seed).permutation(len(ids))
    return [ids[i] for i in order]


def _share(fraction: float, count: int) -> int:
    return max(1, round(fraction * count)) if fraction > 0 else 0


def _parts(train: list[str], val: list[str], test: list[str]) -> Split:
    if not train:
        raise DataError(
            f"the split leaves no case to train on ({len(val)} validate, {len(test)} test); "
            "lower data.split.val or data.split.test, or add cases"
        )
    split: Split = {}
    split |= dict.fromkeys(train, "train")
    split |= dict.fromkeys(val, "val")
    split |= dict.fromkeys(test, "test")
    return split
