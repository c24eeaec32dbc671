"""``TrainingFingerprint``: the distribution of each feature over the training cases, kept in the model file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import Field

from medseg.config.base import Spec
from medseg.data.curation.case_statistics import CaseStatistics
from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.modality import training_modality
from medseg.data.scans import Kind
from medseg.inference.shift.features import Values, foreground_values, object_values, scan_values
from medseg.inference.shift.objects import ObjectSizes

_DIGITS = 6
"""Significant digits of the numbers that are stored."""


class Distribution(Spec):
    """Distribution of a feature over the training cases.

    Attributes:
        cases: number of cases that have the feature.
        low, q25, median, q75, high: 1, 25, 50, 75 and 99 percentiles.
    """

    cases: int
    low: float
    q25: float
    median: float
    q75: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Distribution:
        """Describe some values.

        Example:
            >>> Distribution.of([1, 2, 3, 4, 5]).median
            3.0
        """
        low, q25, median, q75, high = (
            float(f"{value:.{_DIGITS}g}") for value in np.percentile(values, (1, 25, 50, 75, 99))
        )
        return cls(cases=len(values), low=low, q25=q25, median=median, q75=q75, high=high)


class TrainingFingerprint(Spec):
    """What the training cases look like, without paths and identities.

    Attributes:
        cases: number of training cases.
        kind: volume or picture.
        modality: in DICOM's terms (``CT``, ``MR``); None if it is not known.
        lowest: lowest intensity of all training cases.
        features: feature → its distribution over the cases: ``spacing:right`` (mm), ``extent:right`` (mm),
            ``low``, ``middle`` and ``high`` (5, 50 and 95 percentiles of the intensities as stored),
            ``inside`` and ``outside`` (the same of the foreground and the background), ``contrast``,
            ``balance``, ``sharpness``, ``red_green``, ``blue_yellow``, ``saturation``, ``object_size:LABEL``
            (median diameter per case, mm or pixels), ``share:LABEL``.
        objects: label → 5, 50 and 95 percentiles of the diameters of all measured objects, mm or pixels.
    """

    cases: int
    kind: Kind
    modality: str | None = None
    lowest: float
    features: dict[str, Distribution]
    objects: dict[str, tuple[float, float, float]] = Field(default_factory=dict)


def build_fingerprint(
    statistics: Sequence[CaseStatistics], objects: Sequence[Mapping[str, ObjectSizes]]
) -> TrainingFingerprint:
    """Describe the training cases.

    Args:
        statistics: of the training cases; at least one.
        objects: sizes of the objects in some or all of the training cases.
    """
    collected: dict[str, list[float]] = defaultdict(list)
    for case in statistics:
        for name, value in _case_values(case).items():
            collected[name].append(value)
    diameters: dict[str, list[float]] = defaultdict(list)
    for sizes in objects:
        for name, value in object_values(sizes).items():
            collected[name].append(value)
        for name, measured in sizes.items():
            diameters[name] += measured.diameters
    return TrainingFingerprint(
        cases=len(statistics),
        kind=statistics[0].kind,
        modality=training_modality(statistics),
        lowest=min(case.intensities[0] for case in statistics),
        features={name: Distribution.of(values) for name, values in collected.items()},
        objects={name: _object_range(values) for name, values in diameters.items() if values},
    )


def encoded_groups(labels: LabelSchema) -> dict[str, tuple[int, ...]]:
    """Return the encoded values (class index + 1) of each label, without background, or of each region."""
    if not labels.regions:
        return {name: (labels.first_evaluated + i + 1,) for i, name in enumerate(labels.evaluated)}
    return {
        name: tuple(int(i) + 1 for i in np.flatnonzero(members))
        for name, members in zip(labels.regions, labels.region_table, strict=True)
    }


def _case_values(case: CaseStatistics) -> Values:
    if case.appearance is None:
        return {}
    values = scan_values(case.kind, case.shape, case.spacing, case.appearance)
    return values | foreground_values(case.appearance)


def _object_range(diameters: Sequence[float]) -> tuple[float, float, float]:
    low, median, high = (float(f"{value:.{_DIGITS}g}") for value in np.percentile(diameters, (5, 50, 95)))
    return low, median, high
