"""Comparison of one scan and its prediction with the training's fingerprint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.orientations import io_orientation

from medseg.data.curation.scan_features import ScanFeatures, measure_scan
from medseg.data.labels.schema import LabelSchema
from medseg.data.scans import Scan
from medseg.geometry import Array
from medseg.inference.shift.features import (
    Values,
    foreground_values,
    kind_of,
    object_values,
    scan_values,
    title_of,
)
from medseg.inference.shift.fingerprint import Distribution, TrainingFingerprint
from medseg.inference.shift.objects import measure_objects

_TOLERANCE, _SMALL_SAMPLE = 0.5, 8.0
"""Interquartile ranges outside of the training's range from which a feature is reported, for a large number of
training cases, and what is added to it, divided by their number. Chosen so that fewer than 5 % of the held-out
cases of a dataset have a warning."""


@dataclass(frozen=True)
class Deviation:
    """A feature that is outside of the training's range.

    Attributes:
        feature: its name, such as ``object_size:nucleus``.
        value: in the scan or its prediction.
        training: of the training cases.
        distance: from the training's range, in interquartile ranges.
        kind: volume or picture; decides the unit.
    """

    feature: str
    value: float
    training: Distribution
    distance: float
    kind: str = "volume"

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
        return _with_unit(f"{_number(self.training.low)} to {_number(self.training.high)}", self._unit)

    @property
    def advice(self) -> str:
        """What to do about it."""
        advice = kind_of(self.feature).advice
        if self.feature.startswith("object_size") and self.kind == "volume":
            return "check the scan's spacing, and look at the result (--overlays)"
        return advice

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
        score: the largest distance of a feature from the training's range, in interquartile ranges; 0 if every
            feature is within the range.
        warnings: the features that are far outside, the farthest first.
        values: every compared feature.
    """

    score: float
    warnings: tuple[Deviation, ...]
    values: Values

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values for the provenance record."""
        values = {name: float(f"{value:.5g}") for name, value in self.values.items()}
        return {
            "score": round(self.score, 3),
            "warnings": [one.as_dict() for one in self.warnings],
            "features": values,
        }


def compare(values: Values, fingerprint: TrainingFingerprint, *, raw: bool) -> ShiftReport:
    """Compare features with the training's.

    Args:
        values: feature → value; features that the training lacks are skipped.
        fingerprint: of the training.
        raw: whether the network sees intensities in the units of the file, so that they are compared, too.
    """
    compared = {
        name: value
        for name, value in values.items()
        if name in fingerprint.features and (raw or not kind_of(name).raw)
    }
    deviations = [
        Deviation(name, value, training, distance(name, value, training), fingerprint.kind)
        for name, value in compared.items()
        for training in [fingerprint.features[name]]
    ]
    outside = [one for one in deviations if one.distance > tolerance(one.training.cases)]
    outside.sort(key=lambda one: -one.distance)
    score = max((one.distance for one in deviations), default=0.0)
    return ShiftReport(score, tuple(outside), compared)


def tolerance(cases: int) -> float:
    """Return the distance from which a feature is reported; larger for few training cases.

    Example:
        >>> tolerance(4), tolerance(400)
        (2.5, 0.52)
    """
    return _TOLERANCE + _SMALL_SAMPLE / cases


def distance(feature: str, value: float, training: Distribution) -> float:
    """Return how far a value is outside of the range of the training cases, in interquartile ranges.

    Example:
        >>> sizes = Distribution(cases=9, low=8, q25=10, median=12, q75=14, high=20)
        >>> distance("middle", 28, sizes)
        2.0
    """
    kind = kind_of(feature)
    low, q25, q75, high, at = (
        kind.transformed(x) for x in (training.low, training.q25, training.q75, training.high, value)
    )
    return max(low - at, at - high, 0.0) / max(q75 - q25, kind.spread)


def measure_prediction(scan: Scan, label_map: Array, labels: LabelSchema, scale: float | None = None) -> Values:
    """Measure a scan and its prediction.

    Args:
        scan: the scan.
        label_map: (*S) predicted label values.
        labels: of the model.
        scale: factor by which the picture was rescaled for the network, if it was; objects are then measured at
            that scale, and the sharpness is not compared.
    """
    groups = labels.evaluated
    foreground = np.isin(label_map, sorted({v for values in groups.values() for v in values}))
    appearance = measure_scan(scan, foreground)
    spacing = scan.grid.spacing if scale is None else (scale,) * len(scan.grid.shape)
    values = _scan_values(scan, appearance)
    if scale is not None:
        del values["sharpness"]
    return values | foreground_values(appearance) | object_values(measure_objects(label_map, groups, spacing))


def _scan_values(scan: Scan, appearance: ScanFeatures) -> Values:
    if scan.kind == "picture":
        return scan_values("picture", scan.grid.shape, scan.grid.spacing, appearance)
    order = np.argsort(io_orientation(scan.grid.affine)[:, 0])  # right, anterior, superior
    shape, spacing = (tuple(values[i] for i in order) for values in (scan.grid.shape, scan.grid.spacing))
    return scan_values("volume", shape, spacing, appearance)


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}g}" if abs(value) < 1e4 else f"{value:.0f}"


def _with_unit(text: str, unit: str) -> str:
    return f"{text} {unit}" if unit else text
