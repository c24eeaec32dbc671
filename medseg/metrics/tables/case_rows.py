"""One row of scores per case and label, as written to ``cases.csv``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.case.measure import as_labels, measure_case
from medseg.metrics.case.options import DEFAULT_MEASURES, MeasureOptions
from medseg.metrics.lesions.challenges import WORST_HD95_MM
from medseg.metrics.tables.columns import is_distance, worst_value

ScoreOptions = MeasureOptions
"""Former name of the options of a case."""

_WORST_CALIBRATION = {"ece": 1.0, "brier": 1.0, "nll": math.inf}


def case_rows(
    case: str,
    reference: NDArray[Any],
    prediction: NDArray[Any],
    labels: Mapping[str, Sequence[int]],
    spacing: Sequence[float] | None,
    options: MeasureOptions = DEFAULT_MEASURES,
) -> list[dict[str, Any]]:
    """Compute the scores of every label of one case.

    Args:
        case: id of the case.
        reference: integer label map (*S), 2 or 3 axes.
        prediction: integer label map (*S).
        labels: name → values; a name with several values is a region, scored as their union.
        spacing: mm per array axis. If None, distances and tolerances are in pixels.
        options: groups of metrics, tolerance, surface elements, ignored value.

    Returns:
        The rows of ``measure_case``, with the column case first.

    Raises:
        ValueError: if the shapes differ, an array is not of integers, or an option is invalid.

    Example:
        >>> import numpy as np
        >>> reference, prediction = np.array([[0, 1], [0, 2]]), np.array([[1, 1], [0, 2]])
        >>> rows = case_rows("a", reference, prediction, {"organ": [1], "lesion": [2]}, (1.0, 1.0))
        >>> [(row["name"], round(row["dice"], 3)) for row in rows]
        [('organ', 0.667), ('lesion', 1.0)]
    """
    rows = measure_case(reference, prediction, labels, spacing, options)
    return [{"case": case} | row for row in rows]


def worst_rows(
    case: str,
    reference: NDArray[Any],
    labels: Mapping[str, Sequence[int]],
    spacing: Sequence[float] | None,
    options: MeasureOptions = DEFAULT_MEASURES,
) -> list[dict[str, Any]]:
    """Return the rows of a case without a prediction: the worst value of every score.

    Scores are 0 and distances are inf, even for labels that the reference does not contain; calibration errors
    are 1 and the log-likelihood inf; the distance of BraTS is 374 mm. Numbers and sizes are those of an empty
    prediction. tp, fp and tn are 0; fn is the number of voxels in the reference.

    Args:
        case: id of the case.
        reference: integer label map (*S), 2 or 3 axes.
        labels: name → values.
        spacing: mm per array axis. If None, sizes are in pixels.
        options: as for ``case_rows``.

    Raises:
        ValueError: as ``case_rows``.
    """
    taken = {value for values in labels.values() for value in values} | {options.ignore_value}
    free = next(value for value in range(len(taken) + 1) if value not in taken)
    prediction = np.full(reference.shape, free, np.int64)
    improbable = {name: np.zeros(reference.shape, np.float32) for name in labels}
    rows = measure_case(as_labels(reference), prediction, labels, spacing, options, improbable)
    return [{"case": case} | {key: _worst(key, value) for key, value in row.items()} for row in rows]


def _worst(column: str, value: Any) -> Any:
    if column in ("label", "name"):
        return value
    if column == "tn":
        return 0
    if is_distance(column):
        return WORST_HD95_MM if column == "brats_hd95" else math.inf
    worst = _WORST_CALIBRATION.get(column, worst_value(column, math.inf))
    return value if math.isnan(worst) else worst
