"""Comparison of one scan and its prediction with the training's fingerprint."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medseg.data.curation.scan_features import ScanFeatures, measure_scan
from medseg.data.labels.schema import LabelSchema
from medseg.data.scans import Kind, Scan
from medseg.geometry import Array, ras_order
from medseg.inference.shift.features import (
    Values,
    foreground_values,
    is_compared,
    is_of_scan,
    kind_of,
    object_values,
    scan_values,
    title_of,
)
from medseg.inference.shift.fingerprint import Distribution, TrainingFingerprint
from medseg.inference.shift.objects import measure_objects

_TOLERANCE, _SMALL_SAMPLE = 0.7, 9.0
"""Interquartile ranges outside of the training's range from which a feature is reported, for a large number of
training cases, and what is added to it, divided by their number. Chosen so that fewer than 5 % of the held-out
cases of nuclei and hippocampi have a warning if about 100 cases are for training."""
_MOST_FINDINGS = 2
"""Findings that a line names."""
_WIDE = 0.15
"""Smallest interquartile range as a share of the range; the cases may be of several kinds."""


@dataclass(frozen=True)
class Deviation:
    """A feature that is outside of the training's range.

    Attributes:
        feature: its name, such as ``object_size:nucleus``.
        value: in the scan or its prediction.
        training: of the training cases.
        distance: from the training's range, relative to the tolerance; above 1 it is reported.
        kind: volume or picture; decides the unit.
        similar: whether the training's range is that of similar pictures.
        rescaled: whether ``inference.rescale`` was used, so that it is no advice.
        scan_fits: whether the scan itself is within the training's range, so that the prediction is unusual.
    """

    feature: str
    value: float
    training: Distribution
    distance: float
    kind: Kind = "volume"
    similar: bool = False
    rescaled: bool = False
    scan_fits: bool = False

    @property
    def finding(self) -> str:
        """What differs, with the ratio to the training's median where ratios count.

        Example:
            >>> sizes = Distribution(cases=9, low=9, q25=14, median=16, q75=18, high=24)
            >>> Deviation("object_size:nucleus", 38.0, sizes, 2.0).finding
            "median object size (nucleus) 2.4 × the training's"
        """
        title, median = title_of(self.feature), self.training.median
        if kind_of(self.feature).logarithmic and self.value > 0 and median > 0:
            return f"{title} {_number(self.value / median, 2)} × the training's"
        side = "below" if self.value < self.training.low else "above"
        return f"{title} {side} the training's"

    @property
    def measured(self) -> str:
        """The value with its unit."""
        return _with_unit(_number(self.value), self._unit)

    @property
    def expected(self) -> str:
        """The training's range (1 to 99 percentile) with its unit."""
        text = _with_unit(f"{_number(self.training.low)} to {_number(self.training.high)}", self._unit)
        return f"{text} in similar pictures" if self.similar else text

    @property
    def advice(self) -> str:
        """What to do about it."""
        advice = kind_of(self.feature).advice
        if self.scan_fits and self.kind == "volume":
            return "the scan fits the training, its prediction does not: look at the result (--overlays)"
        if not self.feature.startswith("object_size"):
            return advice
        if self.kind == "volume":
            return "check the scan's spacing, and look at the result (--overlays)"
        return "look at the result (--overlays)" if self.rescaled else advice

    def describe(self) -> str:
        """One line: what differs, by how much, and what to do."""
        return f"{self.finding} ({self.measured}; training {self.expected}): {self.advice}"

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "feature": self.feature,
            "finding": self.finding,
            "value": self.measured,
            "training": self.expected,
            "distance": round(self.distance, 3),
            "advice": self.advice,
        }

    @property
    def _unit(self) -> str:
        return kind_of(self.feature).unit[1 if self.kind == "picture" else 0]


@dataclass(frozen=True)
class ShiftReport:
    """How far a scan and its prediction are from the training cases.

    Attributes:
        score: the largest distance of a feature from the training's range, relative to the tolerance: 0 if
            every feature is within the range, above 1 if there are warnings.
        warnings: the features that are far outside, the farthest first.
        values: every measured feature.
    """

    score: float
    warnings: tuple[Deviation, ...]
    values: Values

    @property
    def lines(self) -> tuple[str, ...]:
        """The warnings, one line for each advice; several findings of a line are named without ranges."""
        by_advice: dict[str, list[Deviation]] = {}
        for one in self.warnings:
            by_advice.setdefault(one.advice, []).append(one)
        return tuple(_describe_together(advice, own) for advice, own in by_advice.items())

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values for the provenance record."""
        values = {name: float(f"{value:.5g}") for name, value in self.values.items()}
        return {
            "score": round(self.score, 3),
            "warnings": [one.as_dict() for one in self.warnings],
            "features": values,
        }


def compare(
    values: Values, fingerprint: TrainingFingerprint, *, raw: bool, rescaled: bool = False
) -> ShiftReport:
    """Compare features with those of the training cases, and of those that are similar.

    A dataset may mix several kinds of pictures, such as dark fluorescence and bright stained tissue. The
    objects of a dark picture are therefore also compared with those of the dark training pictures alone.

    Args:
        values: feature → value; features that the training lacks are skipped.
        fingerprint: of the training.
        raw: whether the network sees intensities of volumes in the units of the file.
        rescaled: whether ``inference.rescale`` was used.
    """
    kind = fingerprint.kind
    names = [n for n in values if n in fingerprint.features and is_compared(n, kind, raw=raw)]
    unit = fingerprint.intensity_unit
    table = {name: fingerprint.column(name) for name in names}
    similar = fingerprint.similar_cases(values)
    found: list[Deviation] = []
    for name in names:
        every = _deviation(name, values[name], table[name], unit, kind)
        local = table[name][similar] if similar is not None else table[name]
        if similar is not None and np.isfinite(local).any():
            near = replace(_deviation(name, values[name], local, unit, kind), similar=True)
            every = near if near.distance > every.distance else every
        found.append(every)
    of_scan = [one for one in found if is_of_scan(one.feature)]
    fits = bool(of_scan) and all(one.distance <= 1 for one in of_scan)
    outside = [replace(one, rescaled=rescaled, scan_fits=fits) for one in found if one.distance > 1]
    warnings = sorted(outside, key=lambda one: -one.distance)
    score = max((one.distance for one in found), default=0.0)
    return ShiftReport(score, tuple(warnings), values)


def _describe_together(advice: str, warnings: list[Deviation]) -> str:
    """Describe warnings with the same advice on one line."""
    if len(warnings) == 1:
        return warnings[0].describe()
    more = len(warnings) - _MOST_FINDINGS
    named = ", ".join(one.finding for one in warnings[:_MOST_FINDINGS])
    return f"{named}{f' and {more} more' if more > 0 else ''}: {advice}"


def tolerance(cases: int) -> float:
    """Return the distance from which a feature is reported; larger for few training cases.

    Example:
        >>> round(tolerance(9), 3), round(tolerance(900), 3)
        (1.7, 0.71)
    """
    return _TOLERANCE + _SMALL_SAMPLE / cases


def distance(feature: str, value: float, training: Distribution, unit: float = 1.0) -> float:
    """Return how far a value is outside of the range of the training cases, in interquartile ranges.

    Args:
        feature: its name.
        value: of the scan.
        training: of the training cases.
        unit: of intensities.

    Example:
        >>> colors = Distribution(cases=9, low=0.1, q25=0.2, median=0.25, q75=0.3, high=0.4)
        >>> round(distance("saturation", 0.6, colors), 3)
        2.0
    """
    kind = kind_of(feature)
    scale = unit if kind.raw else 1.0
    low, q25, q75, high, at = (
        kind.transformed(x / scale) for x in (training.low, training.q25, training.q75, training.high, value)
    )
    spread = max(q75 - q25, kind.spread, _WIDE * (high - low))
    return max(low - at, at - high, 0.0) / spread


def _deviation(name: str, value: float, cases: Array, unit: float, kind: Kind) -> Deviation:
    """Compare a value with those of some cases (N), NaN where a case lacks it."""
    training = Distribution.of(cases[np.isfinite(cases)])
    return Deviation(
        name, value, training, distance(name, value, training, unit) / tolerance(training.cases), kind
    )


def measure_appearance(scan: Scan) -> Values:
    """Measure a scan without a prediction."""
    return _scan_values(scan, measure_scan(scan))


def measure_prediction(
    scan: Scan,
    label_map: Array,
    labels: LabelSchema,
    scale: float | None = None,
    objects: Array | None = None,
) -> Values:
    """Measure a scan and its prediction.

    Args:
        scan: the scan.
        label_map: (*S) predicted label values.
        labels: of the model.
        scale: factor by which the picture was rescaled for the network, if it was; objects are then measured at
            that scale, and the sharpness is not compared.
        objects: (*S) numbers of the objects, from a model that tells them apart.
    """
    groups = labels.evaluated
    foreground = np.isin(label_map, sorted({v for values in groups.values() for v in values}))
    appearance = measure_scan(scan, foreground)
    spacing = scan.grid.spacing if scale is None else (scale,) * len(scan.grid.shape)
    values = _scan_values(scan, appearance)
    if scale is not None:
        del values["sharpness"]
    sizes = measure_objects(label_map, groups, spacing, objects)
    return values | foreground_values(appearance) | object_values(sizes)


def _scan_values(scan: Scan, appearance: ScanFeatures) -> Values:
    if scan.kind == "picture":
        return scan_values("picture", scan.grid.shape, scan.grid.spacing, appearance)
    order = ras_order(scan.grid)
    shape, spacing = scan.grid.shape, scan.grid.spacing
    return scan_values("volume", tuple(shape[i] for i in order), tuple(spacing[i] for i in order), appearance)


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}g}" if abs(value) < 1e4 else f"{value:.0f}"


def _with_unit(text: str, unit: str) -> str:
    return f"{text} {unit}" if unit else text
