"""Folds of a cross-validation: grouped by patient, stratified, and recorded in the study's folder."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from medseg.data.cases import Case, Part
from medseg.data.curation.duplicates import bind_copies, find_copies
from medseg.data.curation.splits import FoldSplit
from medseg.errors import ConfigError, DataError
from medseg.files import write_json
from medseg.progress import Progress
from medseg.study.cross_validation.folder import StudyFolder
from medseg.study.cross_validation.settings import Study
from medseg.study.data_changes import advising
from medseg.training.dataset.preparation import PreparedDataset, cache_dataset, label_names, prepare_dataset
from medseg.training.loop_setup import network_needs
from medseg.training.run_folder.case_record import read_record

_MOST_LABELS = 4
"""Labels whose volumes are distributed evenly; with more, it is the volume of all labels."""


_CHANGED = (
    "Restore the dataset, or start a new study in another --output folder: folds would train on other cases."
)


@dataclass(frozen=True)
class Folds:
    """The cases of a cross-validation and their folds.

    Attributes:
        dataset: all cases.
        fold_of: case id → number of the fold that does not train on it; without the test cases.
    """

    dataset: PreparedDataset
    fold_of: Mapping[str, int]

    @property
    def test(self) -> list[Case]:
        """The cases of no fold."""
        return [case for case in self.dataset.cases if case.id not in self.fold_of]

    def held_out(self, fold: int) -> list[Case]:
        """Return the cases that a fold does not train on."""
        return [case for case in self.dataset.cases if self.fold_of.get(case.id) == fold]

    def split(self, fold: int) -> dict[str, Part]:
        """Return the part of each case in the training of a fold: its held-out cases are ``val``."""
        parts: dict[str, Part] = {}
        for case in self.dataset.cases:
            own = self.fold_of.get(case.id)
            parts[case.id] = "test" if own is None else "val" if own == fold else "train"
        return parts


def prepare_folds(study: Study, progress: Progress) -> Folds:
    """Measure the cases, assign the folds, and preprocess what they train on.

    Raises:
        ConfigError, DataError: as :func:`assign_folds`, and if cases are faulty.
    """
    config = study.config
    cache = config.data.cache or study.folder.cache
    dataset = prepare_dataset(
        config.data, config.preprocess, network_needs(config), cache / "facts", progress=progress
    )
    folds = assign_folds(study, dataset)
    parts: dict[str, Part] = {c.id: "train" if c.id in folds.fold_of else "test" for c in dataset.cases}
    if not all(study.folder.fold(number).is_trained for number in range(study.request.folds)):
        cache_dataset(replace(dataset, split=parts), cache, progress)
    return folds


def assign_folds(study: Study, dataset: PreparedDataset) -> Folds:
    """Assign the cases outside the test part to folds, or read the folds of a study that is continued.

    All cases of a patient, and all copies of an image, are in one fold. Labels that some cases lack, the sizes
    of labels and the columns of ``strata`` are distributed evenly (Sechidis et al. 2011).

    Raises:
        ConfigError: if a column of ``strata`` does not exist.
        DataError: if there are fewer patients than folds, or the cases changed since the study was started.
    """
    record = read_record(study.folder.cases)
    if record is not None:
        with advising(_CHANGED):
            record.changes(dataset.cases, dataset.statistics, {})
        return Folds(dataset, _read_folds(study.folder))
    development = [case for case in dataset.cases if dataset.split[case.id] != "test"]
    bound = bind_copies(development, find_copies(dataset.statistics))
    strata = case_strata(dataset, [case.id for case in development], study.request.strata)
    seed = getattr(study.config.data.split, "seed", 0)
    fold_of: dict[str, int] = {}
    for fold in range(study.request.folds):
        split = FoldSplit(folds=study.request.folds, fold=fold, seed=seed, stratify=True)
        fold_of |= {i: fold for i, part in split.assign(bound, strata).items() if part == "val"}
    folds = Folds(dataset, fold_of)
    _record(study, folds)
    return folds


def case_strata(
    dataset: PreparedDataset, cases: Sequence[str], columns: Sequence[str] = ()
) -> dict[str, frozenset[str]]:
    """Return what is distributed evenly over the folds, for each case.

    Args:
        dataset: the dataset.
        cases: ids of the cases.
        columns: columns of the manifest.

    Returns:
        Case id → names of its labels that other cases lack, ``LABEL 1/3`` to ``LABEL 3/3`` for the third of the
        cases that its volume belongs to, and ``COLUMN=VALUE``.

    Raises:
        ConfigError: if no case has a column.
    """
    chosen = set(cases)
    facts = [one for one in dataset.statistics if one.id in chosen]
    labels = {one.id: label_names(one, dataset.labels) for one in facts}
    common = frozenset[str].intersection(*labels.values()) if labels else frozenset[str]()
    strata: dict[str, set[str]] = defaultdict(set)
    for case, names in labels.items():
        strata[case] |= names - common
    for name, volumes in _volumes(dataset, chosen).items():
        ordered = sorted(volumes, key=lambda case: (volumes[case], case))
        for rank, case in enumerate(ordered):
            strata[case].add(f"{name} {1 + 3 * rank // len(ordered)}/3")
    for column in columns:
        values = {case.id: case.metadata[column] for case in dataset.cases if column in case.metadata}
        if not values:
            known = sorted({key for case in dataset.cases for key in case.metadata})
            raise ConfigError(
                f"no case has a column {column!r}", hint=f"Columns: {', '.join(known) or 'none'}."
            )
        for case in chosen & values.keys():
            strata[case].add(f"{column}={values[case]}")
    return {case: frozenset(strata[case]) for case in cases}


def _volumes(dataset: PreparedDataset, chosen: set[str]) -> dict[str, dict[str, float]]:
    """Return the volume of each label in the cases that contain it; of many labels, that of all together."""
    labels = dict(list(dataset.labels.names.items())[1:])
    if len(labels) > _MOST_LABELS:
        labels = {"labels": tuple(value for values in labels.values() for value in values)}
    volumes: dict[str, dict[str, float]] = {name: {} for name in labels}
    for one in dataset.statistics:
        voxel = 1.0
        for step in one.spacing:
            voxel *= step
        for name, values in labels.items():
            voxels = sum(one.label_counts.get(value, 0) for value in values)
            if voxels and one.id in chosen:
                volumes[name][one.id] = voxels * voxel
    return volumes


def _record(study: Study, folds: Folds) -> None:
    """Write ``splits.json`` and then ``cases.json``, which marks the folds as assigned."""
    parts: list[dict[str, list[str]]] = []
    for fold in range(study.request.folds):
        split = folds.split(fold)
        lists = {part: [i for i, own in split.items() if own == part] for part in ("train", "val", "test")}
        parts.append(lists)
        write_json(study.folder.fold(fold).split, split)
    write_json(study.folder.splits, parts)
    entries: list[dict[str, Any]] = [
        {**entry, "part": "test" if fold is None else "train", "fold": fold}
        for entry in folds.dataset.case_entries()
        for fold in [folds.fold_of.get(str(entry["id"]))]
    ]
    write_json(study.folder.cases, entries)


def _read_folds(folder: StudyFolder) -> dict[str, int]:
    try:
        entries: list[dict[str, Any]] = json.loads(folder.cases.read_text(encoding="utf-8"))
        return {str(one["id"]): int(one["fold"]) for one in entries if one["fold"] is not None}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder.cases}: not the record of the folds of a cross-validation ({error})",
            hint="Choose another --output folder.",
            path=folder.cases,
        ) from error
