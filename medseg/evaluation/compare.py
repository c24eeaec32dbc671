"""One case: a prediction and its reference as rows of scores and counts of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.io.readers import read_scan
from medseg.data.labels.schema import LabelSchema
from medseg.data.scans import Scan, align_to_grid, as_label_map
from medseg.errors import DataError, GeometryError
from medseg.evaluation.labels import encode_checked
from medseg.evaluation.options import EvaluationOptions
from medseg.geometry import Array
from medseg.metrics import case_rows, confusion_matrix, worst_rows
from medseg.metrics.confusion import IntArray
from medseg.metrics.tables.case_rows import Unit


@dataclass(frozen=True)
class Compared:
    """The scores of one case.

    Attributes:
        rows: one dict a label, as ``case_rows`` gives them.
        unit: of distances: mm, or px for pictures without a spacing.
        matrix: (K, K) pixels by class in the reference (row) and in the prediction (column).
        unpredicted: (K) pixels by class in the reference that the prediction gives no class.
    """

    rows: list[dict[str, Any]]
    unit: Unit
    matrix: IntArray
    unpredicted: IntArray


@dataclass(frozen=True)
class Comparer:
    """Compares cases under one set of labels and options."""

    labels: LabelSchema
    options: EvaluationOptions

    def compare(self, case: str, prediction: Path, reference: Path) -> Compared:
        """Score a prediction.

        Raises: DataError if a file cannot be read or holds values without a name; GeometryError if the two
        lie on different grids.
        """
        scan = read_scan(reference)
        truth = self._encode(scan)
        try:
            turned = align_to_grid(read_scan(prediction), scan.grid)
        except GeometryError as error:
            raise GeometryError(
                f"prediction and reference lie on different grids: {error} ({reference}, {prediction})"
            ) from error
        found = self._encode(turned)
        rows = case_rows(
            case, truth, found, self._wanted, _known_spacing(scan), tolerance_mm=self.options.tolerance,
            surface=self.options.surface, ignore_value=0,
        )  # fmt: skip
        codes = confusion_matrix(truth, found, num_classes=len(self.labels.names) + 1)
        return Compared(self._named(rows), _unit(scan), codes[1:, 1:], codes[1:, 0])

    def score_worst(self, case: str, reference: Path) -> Compared:
        """The worst value of every score. Raises: DataError if the reference cannot be read."""
        scan = read_scan(reference)
        truth = self._encode(scan)
        rows = worst_rows(case, truth, self._wanted, _known_spacing(scan))
        size = len(self.labels.names)
        unpredicted = np.bincount(truth.ravel(), minlength=size + 1)[1:].astype(np.int64)
        return Compared(self._named(rows), _unit(scan), np.zeros((size, size), np.int64), unpredicted)

    def blank_rows(self, case: str, keys: list[str]) -> list[dict[str, Any]]:
        """Rows of a case without scores: nan under every one of ``keys``."""
        rows: list[dict[str, Any]] = [
            dict.fromkeys(keys, np.nan) | {"case": case, "name": name} for name in self._wanted
        ]
        return self._named(rows)

    @cached_property
    def _wanted(self) -> dict[str, list[int]]:
        """Codes of what is scored, by name."""
        order = list(self.labels.names)
        groups = self.labels.regions or {name: (name,) for name in self.labels.evaluated}
        return {name: [order.index(member) + 1 for member in members] for name, members in groups.items()}

    def _encode(self, scan: Scan) -> Array:
        return encode_checked(as_label_map(scan), self.labels, scan.path)

    def _named(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for row in rows:
            row["label"] = "+".join(map(str, self.labels.evaluated[row["name"]]))
        return rows


def check_columns(columns: Sequence[str], expected: Sequence[str]) -> None:
    """Check that the rows of a case have the columns of those before it.

    Raises: DataError if they do not: one is a volume, a picture with a spacing or one without, the other not.
    """
    foreign = [name for name in columns if name not in expected]
    if foreign:
        raise DataError(
            f"its table has {', '.join(foreign)}, which the cases before it do not have; evaluate volumes, "
            "pictures with a spacing and pictures without one in folders of their own"
        )


def _known_spacing(scan: Scan) -> tuple[float, ...] | None:
    return scan.grid.spacing if _unit(scan) == "mm" else None


def _unit(scan: Scan) -> Unit:
    """Pictures count pixels, unless their file gives a spacing."""
    return "px" if scan.kind == "picture" and set(scan.grid.spacing) == {1.0} else "mm"
