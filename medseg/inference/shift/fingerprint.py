"""``TrainingFingerprint``: the features of the training cases, kept in the model file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from medseg.config.base import Spec
from medseg.data.curation.case_statistics import CaseStatistics
from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.modality import training_modality
from medseg.data.scans import Kind
from medseg.geometry import Array
from medseg.inference.shift.features import (
    Values,
    foreground_values,
    kind_of,
    object_values,
    scan_values,
)
from medseg.inference.shift.objects import ObjectSizes

_FEWEST = 8
"""Smallest number of similar training pictures."""
_SIMILAR = {"middle": 0.7, "saturation": 0.12}
"""Differences up to which two pictures are similar: of the logarithm of the brightness, of the saturation."""
_DIGITS = 4
"""Significant digits of the numbers that are stored."""


@dataclass(frozen=True)
class Distribution:
    """Distribution of a feature over training cases.

    Attributes:
        cases: number of cases.
        low, q25, median, q75, high: 1, 25, 50, 75 and 99 percentiles.
    """

    cases: int
    low: float
    q25: float
    median: float
    q75: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float] | Array) -> Distribution:
        """Describe some values.

        Example:
            >>> Distribution.of([1, 2, 3, 4, 5]).median
            3.0
        """
        low, q25, median, q75, high = (float(x) for x in np.percentile(values, (1, 25, 50, 75, 99)))
        return cls(cases=len(values), low=low, q25=q25, median=median, q75=q75, high=high)


class TrainingFingerprint(Spec):
    """What the training cases look like, without paths and identities.

    Attributes:
        cases: number of training cases.
        kind: volume or picture.
        modality: in DICOM's terms (``CT``, ``MR``); None if it is not known.
        lowest: lowest intensity of all training cases.
        features: feature → its value in each of a sample of training cases, None where a case lacks it:
            ``spacing:right`` (mm), ``extent:right`` (mm), ``low``, ``middle`` and ``high`` (5, 50 and 95
            percentiles of the intensities as stored), ``inside`` and ``outside`` (the same of the foreground
            and the background), ``contrast``, ``balance``, ``sharpness``, ``red_green``, ``blue_yellow``,
            ``saturation``, ``object_size:LABEL`` (median diameter, mm or pixels), ``share:LABEL``.
        objects: label → 5, 50 and 95 percentiles of the diameters of all measured objects, mm or pixels.
    """

    cases: int
    kind: Kind
    modality: str | None = None
    lowest: float
    features: dict[str, tuple[float | None, ...]]
    objects: dict[str, tuple[float, float, float]] = Field(default_factory=dict)

    @property
    def intensity_unit(self) -> float:
        """The number by which intensities are divided before they are compared: the largest magnitude."""
        bounds = [
            abs(value)
            for name, values in self.features.items()
            if name.partition(":")[0] in ("low", "high")
            for value in values
            if value is not None
        ]
        return max(bounds, default=1.0) or 1.0

    def distribution(self, feature: str) -> Distribution:
        """Return the distribution of a feature over the cases that have it."""
        values = self.column(feature)
        return Distribution.of(values[np.isfinite(values)])

    def column(self, feature: str) -> Array:
        """Return the values (N) of a feature, NaN where a case lacks it."""
        return np.array([np.nan if value is None else value for value in self.features[feature]])

    def similar_cases(self, values: Values) -> Array | None:
        """Return the indices of the training pictures of similar brightness and saturation.

        They are at least ``_FEWEST``, if there are as many; None for volumes.
        """
        if self.kind == "volume" or not _SIMILAR.keys() <= self.features.keys() & values.keys():
            return None
        far = np.zeros(len(self.features["middle"]))
        for name, reach in _SIMILAR.items():
            kind = kind_of(name)
            scale = self.intensity_unit if kind.raw else 1.0
            cases = [kind.transformed(x / scale) for x in self.column(name)]
            apart = np.abs(np.array(cases) - kind.transformed(values[name] / scale))
            far = np.maximum(far, apart / reach)
        near = np.flatnonzero(far <= 1)
        return near if len(near) >= _FEWEST else np.argsort(far, kind="stable")[:_FEWEST]


def build_fingerprint(
    statistics: Sequence[CaseStatistics], objects: Sequence[Mapping[str, ObjectSizes] | None]
) -> TrainingFingerprint:
    """Describe the training cases.

    Args:
        statistics: of a sample of the training cases; at least one.
        objects: sizes of the objects in each of them; None where they were not measured.
    """
    rows = [
        _case_values(case) | object_values(sizes or {}) for case, sizes in zip(statistics, objects, strict=True)
    ]
    names = dict.fromkeys(name for row in rows for name in row)
    diameters: dict[str, list[float]] = defaultdict(list)
    for sizes in objects:
        for name, measured in (sizes or {}).items():
            diameters[name] += measured.diameters
    return TrainingFingerprint(
        cases=len(statistics),
        kind=statistics[0].kind,
        modality=training_modality(statistics),
        lowest=min(case.intensities[0] for case in statistics),
        features={name: tuple(_rounded(row.get(name)) for row in rows) for name in names},
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
    low, median, high = (float(f"{x:.{_DIGITS}g}") for x in np.percentile(diameters, (5, 50, 95)))
    return low, median, high


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_DIGITS}g}")
