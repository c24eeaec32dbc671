"""Scores of several methods on the same cases and labels; what is missing never flatters a method."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError, DataError
from medseg.evaluation.comparison.missed_structures import (
    Misses,
    check_same_references,
    count_misses,
    structure_sizes,
)
from medseg.evaluation.comparison.options import OVERALL, ComparisonOptions, Metric, resolve_metric
from medseg.evaluation.comparison.sources import SCORED, MethodScores, UnreadNumber

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Kind = Literal["score", "empty", "missed", "missing", "undefined"]

_EMPTY_IS_NAN = ("dice", "iou", "nsd", "volume_similarity", "hd", "hd95", "assd", "masd", "boundary_iou")
"""Metrics that are nan only if both masks are empty."""
_OWN_DEFINITIONS = {
    r"lesion_(?!dice$).*(?<!_any)": "lesions.min_iou",
    r"brats_.*": "lesions.brats",
    "f_beta": "f_beta",
    "boundary_iou": "boundary_iou_width",
}
_SAME_OPTIONS = "Evaluate the predictions again with the same options."
_VOXEL_METRICS = ("dice", "iou", "precision", "recall", "specificity", "accuracy", "volume_similarity", "rvd")
_STRATUM = r"lesion_sensitivity_[<>]"
_UNITS = ("", "_mm", "_px", "_mm2", "_mm3", "_ml")


@dataclass(frozen=True)
class ScoreTable:
    """Comparable scores.

    Attributes:
        metric: what the scores are.
        methods, cases, labels: names.
        values: (M methods, C cases, L labels), finite, or nan for all methods where the case and label are left
            out.
        observed: (M, C, L) the same before cases of missing results are left out or replaced: nan where the
            method has no result, or nothing can be compared.
        missing: method → case → why it has no result.
        excluded: what is left out for all methods (``CASE`` or ``CASE / LABEL``) → why.
        substituted: (M, C, L) where a score replaces a missing result.
        unit: unit of the scores, such as mm; empty without one.
        notes: how values were replaced, and what readers need to know.
        misses: method → which structures it missed; without methods whose tables have no sizes.
    """

    metric: Metric
    methods: tuple[str, ...]
    cases: tuple[str, ...]
    labels: tuple[str, ...]
    values: FloatArray
    observed: FloatArray
    missing: Mapping[str, Mapping[str, str]]
    excluded: Mapping[str, str]
    substituted: BoolArray
    unit: str = ""
    notes: tuple[str, ...] = ()
    misses: Mapping[str, Misses] = field(default_factory=dict[str, Misses])

    @property
    def goodness(self) -> FloatArray:
        """(M, C, L) values with a sign by which higher is better."""
        return self.values * self.metric.sign


def align_scores(methods: Sequence[MethodScores], options: ComparisonOptions) -> ScoreTable:
    """Arrange the scores of methods by case and label.

    * A result that is missing (no row, a status other than scored, an empty cell) counts as the worst score, or
      is left out for every method.
    * A label that neither mask contains has no score. If that holds for every method, the case is left out;
      otherwise it is the best score, because another method found something where there is nothing.
    * A distance that is infinite counts as the penalty, as does an undefined one of a label that only one of
      both masks contains.

    Args:
        methods: at least two, with distinct names.
        options: metric and treatment of missing results.

    Raises:
        DataError: if the methods have no case or label in common, a table has no such metric, impossible values
            of it or text in their place, or the tables define it differently or have other references.
        ConfigError: if the direction of the metric is unknown, or the penalty is too small.
    """
    metric = resolve_metric(options.metric, options.better)
    columns = [_column_of(method, metric.name, options.metric) for method in methods]
    _check_definitions(methods, metric)
    check_same_references(methods)
    labels, notes = _common_labels(methods)
    cases, outside = _requested_cases(methods)
    unit = _common_unit(metric, columns, methods)
    builder = _Builder(metric, tuple(cases), tuple(labels), options, unit, notes=notes)
    builder.excluded.update(outside)
    for method, column in zip(methods, columns, strict=True):
        builder.add(method, column)
    return builder.build(tuple(method.name for method in methods))


@dataclass
class _Builder:
    metric: Metric
    cases: tuple[str, ...]
    labels: tuple[str, ...]
    options: ComparisonOptions
    unit: str
    notes: list[str] = field(default_factory=list[str])
    excluded: dict[str, str] = field(default_factory=dict[str, str])
    values: list[FloatArray] = field(default_factory=list[FloatArray])
    kinds: list[NDArray[np.str_]] = field(default_factory=list[NDArray[np.str_]])
    missing: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    diagonals: dict[str, float] = field(default_factory=dict[str, float])
    misses: dict[str, Misses] = field(default_factory=dict[str, Misses])

    def add(self, method: MethodScores, column: str) -> None:
        """Add the scores of one method."""
        rows = {(str(row["case"]), str(row["name"])): row for row in method.rows}
        shape = (len(self.cases), len(self.labels))
        values, kinds = np.full(shape, math.nan), np.full(shape, "missing", "<U9")
        reasons: dict[str, str] = {}
        for c, case in enumerate(self.cases):
            for k, label in enumerate(self.labels):
                row = rows.get((case, label))
                kinds[c, k] = _kind(row, column, self.metric)
                if row is not None and kinds[c, k] == "score":
                    self.metric.check_range(row[column], f"{method.name}, case {case}, label {label}")
                    values[c, k] = abs(row[column]) if self.metric.magnitude else row[column]
                if row is not None and _diagonal(row):
                    self.diagonals[case] = _diagonal(row)
            if (kinds[c] == "missing").any():
                status = next(
                    (rows[case, k].get("status", SCORED) for k in self.labels if (case, k) in rows), None
                )
                reasons[case] = method.reasons.get(case) or _reason(status)
        self.values.append(values)
        self.kinds.append(kinds)
        self.missing[method.name] = reasons
        misses = None if method.averaged else count_misses(rows, self.cases, self.labels)
        if misses is not None:
            self.misses[method.name] = misses

    def build(self, methods: tuple[str, ...]) -> ScoreTable:
        """Replace and exclude values; return the table.

        Raises:
            DataError: if nothing is left to compare.
        """
        values, kinds = np.stack(self.values), np.stack(self.kinds)
        missing = kinds == "missing"
        out = self._left_out(kinds, missing)
        worst = missing | (kinds == "missed")
        values = np.where(worst, self.metric.worst, values)
        values = np.where(kinds == "empty", self.metric.best, values)
        values = self._with_penalties(values, worst, out)
        no_score = (kinds == "empty").all(axis=0) | (kinds == "undefined").any(axis=0)
        observed = np.where(missing | no_score, math.nan, values)
        values = np.where(out, math.nan, values)
        if not (~out).any():
            raise DataError(
                f"no case has a {self.metric.title} for every method",
                hint="Compare tables of the same cases, or count missing results with --missing worst.",
            )
        return ScoreTable(
            self.metric, methods, self.cases, self.labels, values, observed, self.missing,
            self.excluded, missing & ~out, self.unit, tuple(self.notes), self.misses,
        )  # fmt: skip

    def _left_out(self, kinds: NDArray[np.str_], missing: BoolArray) -> BoolArray:
        """Return (C, L) what is left out for all methods, and record why."""
        nothing: BoolArray = np.logical_and.reduce(kinds == "empty", axis=0)
        unclear: BoolArray = np.logical_or.reduce(kinds == "undefined", axis=0)
        by_none: BoolArray = np.logical_and.reduce(missing, axis=0)
        by_some: BoolArray = np.logical_or.reduce(missing, axis=0)
        dropped = by_some if self.options.missing == "exclude" else by_none
        if np.isnan(self.metric.best):  # no value is known to be correct
            unclear |= np.logical_or.reduce(kinds == "empty", axis=0)
        for c, case in enumerate(self.cases):
            if dropped[c].all():
                self.excluded[case] = "no method has a result" if by_none[c].all() else "a method has no result"
                continue
            for k, label in enumerate(self.labels):
                reason = (
                    "a method has no result" if dropped[c, k]
                    else "neither the reference nor any prediction has the label" if nothing[c, k]
                    else f"{self.metric.title} is undefined for a method" if unclear[c, k]
                    else None
                )  # fmt: skip
                if reason:
                    self.excluded[f"{case} / {label}"] = reason
        return dropped | nothing | unclear

    def _with_penalties(self, values: FloatArray, lost: BoolArray, out: BoolArray) -> FloatArray:
        """Replace infinite values, also of lost structures, by the penalty of the case or label.

        Raises:
            ConfigError: if a found structure has a larger value than the penalty of a missed one.
        """
        infinite = np.isinf(values)
        if not infinite.any():
            return values
        direction = 1.0 if self.metric.better == "lower" else -1.0
        finite = np.where(np.isfinite(values), values * direction, -math.inf)
        largest = finite.max(axis=(0, 1))  # (L,)
        if self.options.penalty is not None:
            penalties = np.full(values.shape[1:], direction * self.options.penalty)
            if self.options.penalty < (most := np.where(out, -math.inf, finite).max()):
                raise ConfigError(
                    f"--penalty {self.options.penalty:g}: a method has a {self.metric.title} of {most:g}, "
                    "beside which a missed structure would count as the better result",
                    hint=f"Give at least {most:.4g}, such as the diagonal of the images.",
                )
            rule = f"{self.options.penalty:g}"
        elif self.diagonals and self.metric.is_distance:
            largest_diagonal = max(self.diagonals.values())
            diagonals = np.array([self.diagonals.get(case, largest_diagonal) for case in self.cases])
            penalties, rule = np.broadcast_to(diagonals[:, None], values.shape[1:]), "the diagonal of the image"
        else:
            fallback = largest.max() if np.isfinite(largest).any() else 1.0
            largest = np.where(np.isfinite(largest), largest, fallback)
            if self.metric.magnitude:  # 1 is that of an empty prediction
                largest = np.maximum(largest, 1.0)
            elif self.metric.best == 0:  # a missing result is never perfect
                largest = np.where(largest > 0, largest, 1.0)
            penalties = np.broadcast_to(direction * largest, values.shape[1:])
            least = "the largest" if self.metric.better == "lower" else "the smallest"
            least = "1 or the largest" if self.metric.magnitude else least
            rule = f"{least} finite value of the label, which is lenient; set --penalty"
        counts = {
            "infinite": int((infinite & ~lost & ~out).sum()),
            "missing": int((infinite & lost & ~out).sum()),
        }
        found = " and ".join(f"{count} {kind}" for kind, count in counts.items() if count)
        verb = "value counts" if sum(counts.values()) == 1 else "values count"
        self.notes += [f"{found} {self.metric.title} {verb} as {rule}"] if found else []
        return np.where(infinite, penalties, values)


def _kind(row: Mapping[str, Any] | None, column: str, metric: Metric) -> Kind:
    """Return what the cell of a row means."""
    if row is None or row.get("status", SCORED) != SCORED:
        return "missing"
    if not math.isnan(row.get(column, math.nan)):
        return "score"
    sizes = structure_sizes(row)
    if sizes is None or any(map(math.isnan, sizes)):
        declared = sizes is None and row.get("status") == SCORED and metric.name in _EMPTY_IS_NAN
        return "empty" if declared else "missing"
    if re.match(_STRATUM, metric.name):
        return "undefined"  # the reference has no lesion of this size
    reference, prediction = sizes
    if not reference and not prediction:
        return "empty"
    spurious = bool(prediction) and not reference and metric.is_distance  # nan as in other libraries
    return "missed" if (reference and not prediction) or spurious else "undefined"


def _diagonal(row: Mapping[str, Any]) -> float:
    value = next((row[key] for key in ("diagonal_mm", "diagonal_px", "diagonal") if key in row), math.nan)
    return float(value) if math.isfinite(value) else 0.0


def _reason(status: str | None) -> str:
    if status is None:
        return "not in its table"
    return "no score" if status == SCORED else status


def _column_of(method: MethodScores, name: str, given: str) -> str:
    columns = list(dict.fromkeys(key for row in method.rows for key in row))
    for column in (given, *(f"{name}{unit}" for unit in _UNITS)):
        if column in columns:
            _check_numbers(method, column)
            return column
    scores = [c for c in columns if c not in ("case", "label", "name", "status", "tp", "fp", "fn", "tn")]
    raise DataError(
        f"{method.name}: the table has no column {given!r}",
        hint=f"Choose another --metric: {', '.join(scores) or 'the table has no scores'}.",
    )


def _check_numbers(method: MethodScores, column: str) -> None:
    """Raise a DataError for a score such as ``0,85``, which would count as missing."""
    for row in method.rows:
        value = row.get(column)
        if isinstance(value, UnreadNumber) and row.get("status", SCORED) == SCORED:
            where = f"{method.source or method.name}: {column} of case {row['case']}"
            raise DataError(
                f"{where} is {value.text!r}, not a number",
                hint="Write numbers with a point, such as 0.85, and NA where there is no result.",
            )


def _common_unit(metric: Metric, columns: Sequence[str], methods: Sequence[MethodScores]) -> str:
    """Return the unit of the scores; empty if no table states it.

    Raises:
        DataError: if tables state different units.
    """
    units = {m.name: _unit_of(metric, column, m) for m, column in zip(methods, columns, strict=True)}
    known = {name: unit for name, unit in units.items() if unit}
    if len(set(known.values())) > 1:
        shown = ", ".join(f"{name}: {unit}" for name, unit in known.items())
        raise DataError(f"the tables have {metric.title} in different units ({shown})", hint=_SAME_OPTIONS)
    return next(iter(known.values()), "")


def _unit_of(metric: Metric, column: str, method: MethodScores) -> str:
    """Return the unit of a column: that of its name, or of the distances of the evaluation."""
    suffix = column.removeprefix(metric.name).removeprefix("_")
    if suffix in ("mm", "px", "mm2", "mm3", "ml"):
        return suffix.replace("2", "²").replace("3", "³")
    return str(method.definitions.get("unit", "")) if metric.is_distance else ""


def _common_labels(methods: Sequence[MethodScores]) -> tuple[list[str], list[str]]:
    """Return the labels of all methods, and a note on those that only some of them have."""
    names = [list(dict.fromkeys(str(row["name"]) for row in method.rows)) for method in methods]
    common = [name for name in names[0] if all(name in other for other in names)]
    if not common:
        shown = "; ".join(f"{m.name}: {', '.join(own)}" for m, own in zip(methods, names, strict=True))
        raise DataError(f"the methods have no label in common ({shown})", hint="Name labels alike.")
    if OVERALL in common and len(common) > 1:
        raise DataError(
            f"a label is named {OVERALL!r}, like the mean over the labels",
            hint="Rename the label, or remove its rows from the tables if they are means.",
        )
    rest = sorted({name for own in names for name in own if name not in common})
    return common, [f"labels that not every method has are not compared: {', '.join(rest)}"] if rest else []


def _check_definitions(methods: Sequence[MethodScores], metric: Metric) -> None:
    """Check that scores were computed alike, as far as the tables tell.

    Raises:
        DataError: if conventions, unit, tolerance, surface elements or the rules of lesions differ.
    """
    keys = ["like"]
    if metric.name not in _VOXEL_METRICS:
        keys += ["unit", "surface", "tolerance_mm", "tolerance_px"]
    keys += [key for pattern, key in _OWN_DEFINITIONS.items() if re.fullmatch(pattern, metric.name)]
    for key in keys:
        found = {m.name: _definition(m.definitions, key) for m in methods}
        found = {name: value for name, value in found.items() if value is not None}
        if len(set(found.values())) > 1:
            shown = ", ".join(f"{name}: {value}" for name, value in found.items())
            raise DataError(
                f"the tables define {metric.title} differently: {key} is {shown}", hint=_SAME_OPTIONS
            )


def _definition(definitions: Mapping[str, Any], key: str) -> str | None:
    """Return the text of a definition, with dots between the keys of nested ones; None if it is not stated."""
    value: Any = definitions
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = cast("Mapping[str, Any]", value)[part]
    return str(value)


def _requested_cases(methods: Sequence[MethodScores]) -> tuple[list[str], dict[str, str]]:
    """Return the cases that every method was to segment, and those outside them."""
    cases = {str(row["case"]) for method in methods for row in method.rows}
    cases |= {case for method in methods for case in method.reasons}
    outside: dict[str, str] = {}
    for method in methods:
        if method.requested is not None:
            cases |= method.requested
            outside |= dict.fromkeys(cases - method.requested, f"{method.name} was not to segment it")
    if len(outside) == len(cases):
        raise DataError(
            "the methods have no case in common",
            hint="Runs are compared on cases that are test cases of each: train them with the same split.",
        )
    return sorted(cases - outside.keys()), outside
