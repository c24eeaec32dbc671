"""Measurements of the cases of a dataset: distributions, unusual cases, differences between two datasets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from medseg.data.curation.case_statistics import CaseStatistics
from medseg.data.labels.schema import LabelSchema

UNUSUAL = 3.5
"""Robust z-score from which a value is unusual (Iglewicz and Hoaglin 1993)."""
_MOST_UNUSUAL = 0.2
"""Share of the cases from which far values are groups instead of unusual cases."""

_VOLUME_AXES = ("right", "anterior", "superior")
_PICTURE_AXES = ("rows", "columns")
_MAD = 1.4826
_SKEWED = 8
"""Ratio of the largest and the smallest value from which positive values are shown on a logarithmic scale."""
_ENOUGH = 8
"""Fewest cases of a dataset with which it is compared."""


@dataclass(frozen=True)
class Measure:
    """A measurement of every case.

    Attributes:
        group: ``grid``, ``intensity`` or ``label``.
        name: what is measured.
        unit: of the values; empty if they have none.
        values: case → value; cases without a value are left out.
    """

    group: str
    name: str
    unit: str
    values: Mapping[str, float]

    @cached_property
    def log(self) -> bool:
        """Whether the values are positive and differ so much that a logarithmic scale shows them better."""
        values = list(self.values.values())
        return bool(values) and min(values) > 0 and max(values) > _SKEWED * min(values)

    @cached_property
    def median(self) -> float:
        """Median over the cases."""
        return float(np.median(list(self.values.values()))) if self.values else math.nan

    @cached_property
    def scores(self) -> dict[str, float]:
        """Case → distance from the median in robust standard deviations, with its sign.

        If more than half of the cases have the same value, others have an infinite distance if they are at most
        a tenth of the cases, else none.
        """
        names, values = list(self.values), np.array(list(self.values.values()))
        if len(values) < _ENOUGH:
            return dict.fromkeys(names, 0.0)
        used = np.log(values) if self.log else values
        away = used - np.median(used)
        spread = _MAD * float(np.median(np.abs(away)))
        if spread > 0:
            return dict(zip(names, (away / spread).tolist(), strict=True))
        differs = np.abs(away) > 1e-3 * max(float(np.abs(used).max()), 1e-12)
        rare = 0 < differs.sum() <= len(values) / 10
        far = np.where(differs & rare, np.copysign(math.inf, away), 0.0)
        return dict(zip(names, far.tolist(), strict=True))


@dataclass(frozen=True)
class CaseMeasures:
    """All measurements of a dataset.

    Attributes:
        measures: the measurements.
    """

    measures: Sequence[Measure]

    @cached_property
    def grouped(self) -> list[Measure]:
        """The measurements in which more than a fifth of the cases are far from the median."""
        far = {
            one.name: np.mean([abs(z) > UNUSUAL for z in one.scores.values()])
            for one in self.measures
            if one.scores
        }
        return [one for one in self.measures if far.get(one.name, 0.0) > _MOST_UNUSUAL]

    @cached_property
    def _compact(self) -> list[Measure]:
        return [one for one in self.measures if one not in self.grouped]

    def unusual(self, case: str) -> list[Measure]:
        """Return the measurements in which a case is unusual, the farthest first.

        Measurements in which the cases form groups do not count.
        """
        far = [(abs(one.scores.get(case, 0.0)), one) for one in self._compact]
        return [one for score, one in sorted(far, key=lambda pair: -pair[0]) if score > UNUSUAL]

    def outliers_first(self, cases: Sequence[str]) -> list[str]:
        """Return the cases, those with the farthest measurement first."""
        largest = {c: max((abs(m.scores.get(c, 0.0)) for m in self._compact), default=0.0) for c in cases}
        return sorted(cases, key=lambda case: -largest[case])

    def find(self, name: str) -> Measure | None:
        """Return a measurement by name."""
        return next((one for one in self.measures if one.name == name), None)


@dataclass(frozen=True)
class MeasureDifference:
    """The difference of a measurement between two datasets.

    Attributes:
        first, second: the measurement in both.
        higher: probability that a case of the second has a higher value than one of the first; ties count half.
        p: p value of the two-sample test of Kolmogorov and Smirnov, adjusted by Holm's procedure.
    """

    first: Measure
    second: Measure
    higher: float
    p: float = field(default=math.nan)

    @property
    def established(self) -> bool:
        """Whether the distributions differ at the level 0.05 over all measurements."""
        return self.p < 0.05


def measure_cases(facts: Sequence[CaseStatistics], labels: LabelSchema | None) -> CaseMeasures:
    """Return the measurements of a dataset: grid, intensities, and the size of each label.

    Args:
        facts: measurements of the cases.
        labels: of the dataset; None if its label maps contain a single value.
    """
    measures = [*_grid_measures(facts), *_intensity_measures(facts)]
    if labels is not None:
        measures += _label_measures(facts, labels)
    return CaseMeasures([one for one in measures if one.values])


def compare_measures(first: CaseMeasures, second: CaseMeasures) -> list[MeasureDifference]:
    """Compare the measurements that two datasets have in common, the clearest difference first."""
    from scipy.stats import ks_2samp

    found: list[tuple[MeasureDifference, float]] = []
    for one in first.measures:
        other = second.find(one.name)
        if other is None or min(len(one.values), len(other.values)) < _ENOUGH:
            continue
        a, b = (np.array(list(m.values.values())) for m in (one, other))
        test: Any = ks_2samp(a, b)
        above = (b[:, None] > a[None]).mean() + 0.5 * (b[:, None] == a[None]).mean()
        found.append((MeasureDifference(one, other, float(above)), float(test.pvalue)))
    adjusted = _holm([p for _, p in found])
    pairs = [
        MeasureDifference(one.first, one.second, one.higher, p)
        for (one, _), p in zip(found, adjusted, strict=True)
    ]
    return sorted(pairs, key=lambda one: (one.p, -abs(one.higher - 0.5)))


def _holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values for the number of tests (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _grid_measures(facts: Sequence[CaseStatistics]) -> list[Measure]:
    measures: list[Measure] = []
    volumes = all(fact.kind == "volume" for fact in facts)
    names = _VOLUME_AXES if volumes else _PICTURE_AXES
    kept = [fact for fact in facts if len(fact.shape) == len(names)]
    for axis, name in enumerate(names):
        unit = "voxels" if volumes else "pixels"
        measures.append(Measure("grid", f"size, {name}", unit, {f.id: float(f.shape[axis]) for f in kept}))
    if any(set(fact.spacing) != {1.0} for fact in kept):
        for axis, name in enumerate(names):
            values = {f.id: float(f.spacing[axis]) for f in kept}
            measures.append(Measure("grid", f"spacing, {name}", "mm", values))
    return measures


def _intensity_measures(facts: Sequence[CaseStatistics]) -> list[Measure]:
    measures: list[Measure] = []
    kept = [(fact.id, fact.appearance) for fact in facts if fact.appearance is not None]
    channels = max((len(one.intensities) for _, one in kept), default=0)
    for channel in range(channels):
        of = f", channel {channel}" if channels > 1 else ""
        own = [(case, one) for case, one in kept if len(one.intensities) > channel]
        measures.append(
            Measure(
                "intensity", f"median intensity{of}", "", {c: one.intensities[channel][2] for c, one in own}
            )
        )
        ranges = {c: one.intensities[channel][4] - one.intensities[channel][0] for c, one in own}
        measures.append(Measure("intensity", f"intensity range{of}", "", ranges))
        inside = {
            c: one.inside[channel][2] - one.outside[channel][2]
            for c, one in own
            if len(one.inside) > channel and len(one.outside) > channel
        }
        measures.append(Measure("intensity", f"foreground minus background{of}", "", inside))
    measures.append(Measure("intensity", "sharpness", "", {case: one.sharpness for case, one in kept}))
    for name in ("red_green", "blue_yellow", "saturation"):
        values = {case: getattr(one, name) for case, one in kept if getattr(one, name) is not None}
        title = {"red_green": "red over green", "blue_yellow": "blue over yellow"}.get(name, name)
        measures.append(Measure("intensity", title, "", values))
    return measures


def _label_measures(facts: Sequence[CaseStatistics], labels: LabelSchema) -> list[Measure]:
    pixels = all(fact.kind == "picture" and set(fact.spacing) == {1.0} for fact in facts)
    pictures = all(fact.kind == "picture" for fact in facts)
    unit, factor = ("pixels", 1.0) if pixels else ("mm²", 1.0) if pictures else ("ml", 1e-3)
    kind = "area" if pictures else "volume"
    labeled = [fact for fact in facts if fact.label_counts]
    measures: list[Measure] = []
    if labels.collapse_instances:
        skipped = {labels.output_values[0], labels.ignore_value}
        name = list(labels.names)[1]
        counts = {f.id: [n for value, n in f.label_counts.items() if value not in skipped] for f in labeled}
        sizes = {f.id: float(np.prod(f.spacing)) * factor for f in labeled}
        measures.append(Measure("label", f"objects, {name}", "", {c: float(len(n)) for c, n in counts.items()}))
        medians = {c: float(np.median(n)) * sizes[c] for c, n in counts.items() if n}
        measures.append(Measure("label", f"{kind} of an object, {name}", unit, medians))
        return measures
    for name, own in labels.evaluated.items():
        values = {
            fact.id: sum(fact.label_counts.get(value, 0) for value in own)
            * float(np.prod(fact.spacing))
            * factor
            for fact in labeled
        }
        present = {case: value for case, value in values.items() if value > 0}
        measures.append(Measure("label", f"{kind}, {name}", unit, present))
    return measures
