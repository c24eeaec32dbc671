"""Comparison of one prediction with its reference: rows of scores, and counts of pixels by class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.io.readers import read_scan
from medseg.data.labels.schema import LabelSchema
from medseg.data.scans import Scan, align_to_grid, as_label_map
from medseg.errors import DataError, GeometryError
from medseg.evaluation.labels import encode_label_map
from medseg.evaluation.options import EvaluationOptions
from medseg.evaluation.probabilities import by_name, read_probabilities, reliability
from medseg.geometry import Array
from medseg.metrics import (
    IntArray,
    MeasureOptions,
    ReliabilityCurve,
    Unit,
    confusion_matrix,
    measure_case,
    worst_rows,
)

_TEXT = ("spacing_mm", "spacing_px")


@dataclass(frozen=True)
class CaseComparison:
    """Scores of one case.

    Attributes:
        rows: one dict per label, see ``case_rows``, with the columns ``spacing``, ``diagonal`` and
            ``tolerance``, whose names end with the unit.
        unit: unit of distances: mm, or px for pictures without spacing.
        shape, spacing: of the reference, in array axis order.
        matrix: (K, K) pixels by class in the reference (row) and in the prediction (column).
        unpredicted: (K,) pixels by class in the reference for which the prediction has no class.
        counts: (1 + K,) pixels of both files that are ignored in the reference, and of each class.
        reliability: of the probabilities; None without them.
    """

    rows: list[dict[str, Any]]
    unit: Unit
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    matrix: IntArray
    unpredicted: IntArray
    counts: IntArray
    reliability: ReliabilityCurve | None = None

    @property
    def diagonal(self) -> float:
        """Largest possible distance of two surfaces in the image."""
        return image_diagonal(self.shape, self.spacing)


@dataclass(frozen=True)
class CaseComparer:
    """Compares cases with the same labels and options.

    Attributes:
        labels: names and values.
        options: options of the evaluation.
        folder: folder of the predictions, with ``probabilities`` for the calibration.
    """

    labels: LabelSchema
    options: EvaluationOptions
    folder: Path = Path()

    def compare(self, case: str, prediction: Path, reference: Path) -> CaseComparison:
        """Score a prediction.

        Raises:
            DataError: if a file cannot be read or contains values without a name.
            GeometryError: if the two files have different grids.
        """
        scan = read_scan(reference)
        expected = self._encode(scan)
        try:
            aligned = align_to_grid(read_scan(prediction), scan.grid)
        except GeometryError as error:
            raise GeometryError(
                f"prediction and reference have different grids: {error} ({reference}, {prediction})", case=case
            ) from error
        predicted = self._encode(aligned)
        maps = curve = None
        if "calibration" in self.options.metrics:
            probabilities = read_probabilities(self.folder, case, scan, self.labels)
            maps, curve = by_name(probabilities, self.labels), reliability(probabilities, expected, self.labels)
        rows = measure_case(expected, predicted, self._encoded_labels, _known_spacing(scan), self.scores, maps)
        rows = [{"case": case} | row for row in rows]
        matrix = confusion_matrix(expected, predicted, num_classes=len(self.labels.names) + 1)
        counts = matrix.sum(axis=1) + np.r_[0, matrix[:, 1:].sum(axis=0)]
        compared = self._comparison(rows, scan, matrix[1:, 1:], counts, matrix[1:, 0])
        return replace(compared, reliability=curve)

    def score_worst(self, case: str, reference: Path) -> CaseComparison:
        """Give a case the worst value of every score.

        Raises:
            DataError: if the reference cannot be read.
        """
        scan = read_scan(reference)
        expected = self._encode(scan)
        rows = worst_rows(case, expected, self._encoded_labels, _known_spacing(scan), self.scores)
        size = len(self.labels.names)
        counts = np.bincount(expected.ravel(), minlength=size + 1).astype(np.int64)
        return self._comparison(rows, scan, np.zeros((size, size), np.int64), counts, counts[1:])

    def blank_rows(self, case: str, keys: list[str]) -> list[dict[str, Any]]:
        """Return rows of a case without scores, with nan for each of ``keys``."""
        rows: list[dict[str, Any]] = [
            {key: "" if key in _TEXT else np.nan for key in keys} | {"case": case, "name": name}
            for name in self._encoded_labels
        ]
        return self._with_values(rows)

    def check(self) -> None:
        """Raise ConfigError if the options name a label that is not evaluated."""
        _ = self.scores

    @cached_property
    def scores(self) -> MeasureOptions:
        """Options of the scores of one case."""
        return self.options.scores(self._encoded_labels)

    @cached_property
    def _encoded_labels(self) -> dict[str, list[int]]:
        """Encoded values of the evaluated labels or regions, by name."""
        order = list(self.labels.names)
        groups = self.labels.regions or {name: (name,) for name in self.labels.evaluated}
        return {name: [order.index(member) + 1 for member in members] for name, members in groups.items()}

    def _encode(self, scan: Scan) -> Array:
        return encode_label_map(as_label_map(scan), self.labels, scan.path)

    def _comparison(
        self, rows: list[dict[str, Any]], scan: Scan, matrix: IntArray, counts: IntArray, unpredicted: IntArray
    ) -> CaseComparison:
        unit, shape, spacing = _unit(scan), scan.grid.shape, scan.grid.spacing
        tolerance = self.scores.tolerance_mm
        for row in self._with_values(rows):
            row[f"spacing_{unit}"] = "x".join(f"{step:g}" for step in spacing)
            row[f"diagonal_{unit}"] = image_diagonal(shape, spacing)
            row[f"tolerance_{unit}"] = tolerance[row["name"]] if isinstance(tolerance, Mapping) else tolerance
        return CaseComparison(rows, unit, shape, spacing, matrix, unpredicted, counts)

    def _with_values(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Set the column ``label`` to the values in the files, which the encoded ones replaced."""
        for row in rows:
            row["label"] = "+".join(map(str, self.labels.evaluated[row["name"]]))
        return rows


def image_diagonal(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """Return the diagonal of an image, from outer border to outer border.

    Example:
        >>> image_diagonal((3, 4), (1.0, 1.0))
        5.0
    """
    return math.hypot(*(size * step for size, step in zip(shape, spacing, strict=True)))


def check_columns(columns: Sequence[str], expected: Sequence[str]) -> None:
    """Check that the rows of a case have the columns of the cases before it.

    Raises:
        DataError: if they differ, because the case is a volume or a picture, or has a spacing, and the others
            are not or do not.
    """
    unexpected = [name for name in columns if name not in expected]
    if unexpected:
        raise DataError(
            f"its table has the columns {', '.join(unexpected)}, which those of earlier cases do not have",
            hint="Evaluate volumes, pictures with spacing and pictures without spacing in separate folders.",
        )


def _known_spacing(scan: Scan) -> tuple[float, ...] | None:
    return scan.grid.spacing if _unit(scan) == "mm" else None


def _unit(scan: Scan) -> Unit:
    """Return px for pictures whose file has no spacing, else mm."""
    return "px" if scan.kind == "picture" and set(scan.grid.spacing) == {1.0} else "mm"
