"""One row of scores per case and label: what ends up in ``metrics/cases.csv``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medseg.metrics import overlap
from medseg.metrics.binary import surface_scores
from medseg.metrics.checks import BoolArray, check_shapes, check_spacing, check_tolerance
from medseg.metrics.geometry.bounding_box import Box, joint_box, label_box, value_boxes
from medseg.metrics.surface import Surface, surface_distances

Tolerance = float | Mapping[str, float]

Unit = Literal["mm", "px"]
"""Of distances: mm, or pixels where the spacing is not known."""


def case_rows(
    case: str,
    reference: NDArray[Any],
    prediction: NDArray[Any],
    labels: Mapping[str, Sequence[int]],
    spacing: Sequence[float] | None,
    *,
    tolerance_mm: Tolerance = 1.0,
    surface: Surface = "surfel",
    ignore_value: int | None = None,
) -> list[dict[str, Any]]:
    """Scores of every label of one case, one row each, in the order of ``labels``.

    Shapes: reference and prediction (*S) integer label maps, 2 or 3 axes; ``spacing`` in mm per array
    axis, or None where it is not known: distances and ``tolerance_mm`` are in pixels then. ``labels`` maps
    a name to its values: several make a region, scored as their union. ``tolerance_mm`` is one value or one
    per name. Voxels whose reference is ``ignore_value`` count nowhere, and are background of both masks
    where surfaces are concerned.
    Keys: case, label (the values joined by "+"), name, dice, iou, precision, recall, specificity,
    volume_similarity, hd, hd95, assd, masd (mm or pixels), nsd, the sizes of both masks (see
    ``size_columns``), tp, fp, fn, tn (voxels).
    Raises: ValueError if shapes differ, arrays are not of integers, or a setting is not usable.
    """
    check_shapes(reference, prediction)
    unit: Unit = "px" if spacing is None else "mm"
    spacing = check_spacing((1.0,) * reference.ndim if spacing is None else spacing, reference.ndim)
    pair = _Pair(_as_labels(reference), _as_labels(prediction), spacing)
    columns = size_columns(reference.ndim, unit)
    tolerances = {name: _tolerance_of(name, tolerance_mm) for name in labels}
    for name, values in labels.items():
        _check_values(name, values, ignore_value)
    wanted = [value for values in labels.values() for value in values]
    reference_boxes, prediction_boxes = (
        value_boxes(array, wanted) for array in (pair.reference, pair.prediction)
    )
    valid = None if ignore_value is None else pair.reference != ignore_value
    total = reference.size if valid is None else int(np.count_nonzero(valid))
    rows: list[dict[str, Any]] = []
    for name, values in labels.items():
        box = joint_box(label_box(reference_boxes, values), label_box(prediction_boxes, values))
        masks = pair.masks(values, box, valid)
        counts = _count(*masks, total)
        distances = surface_distances(*masks, pair.spacing, surface=surface)
        identity = {"case": case, "label": "+".join(str(value) for value in values), "name": name}
        sizes = (counts.reference * pair.voxel_size, counts.prediction * pair.voxel_size)
        scores = _scores(counts, surface_scores(distances, tolerances[name]))
        rows.append(identity | scores | dict(zip(columns, sizes, strict=True)) | asdict(counts))
    return rows


def worst_rows(
    case: str,
    reference: NDArray[Any],
    labels: Mapping[str, Sequence[int]],
    spacing: Sequence[float] | None,
) -> list[dict[str, Any]]:
    """Rows as of ``case_rows`` for a case without a prediction: the worst value of every score.

    Overlap scores and nsd are 0 and distances inf, also of labels that the reference does not hold. Nothing
    is credited: tp, fp and tn are 0, fn counts the reference's voxels.
    Raises: ValueError as ``case_rows``.
    """
    unit: Unit = "px" if spacing is None else "mm"
    voxel = math.prod(check_spacing((1.0,) * reference.ndim if spacing is None else spacing, reference.ndim))
    reference = _as_labels(reference)
    rows: list[dict[str, Any]] = []
    for name, values in labels.items():
        _check_values(name, values, None)
        voxels = int(np.count_nonzero(_members(reference, values)))
        counts = overlap.Counts(tp=0, fp=0, fn=voxels, tn=0)
        sizes = dict(zip(size_columns(reference.ndim, unit), (voxels * voxel, 0.0), strict=True))
        identity = {"case": case, "label": "+".join(str(value) for value in values), "name": name}
        rows.append(identity | _WORST | sizes | asdict(counts))
    return rows


def size_columns(axes: int, unit: Unit) -> tuple[str, str]:
    """The columns of the reference's and the prediction's size: volumes in mm³, areas in mm² or pixels."""
    kind = "volume" if axes == 3 else "area"
    measure = f"mm{axes}" if unit == "mm" else "px"
    return f"reference_{kind}_{measure}", f"predicted_{kind}_{measure}"


_OVERLAPS = ("dice", "iou", "precision", "recall", "specificity", "volume_similarity")
_WORST = {
    **dict.fromkeys(_OVERLAPS, 0.0),
    **dict.fromkeys(("hd", "hd95", "assd", "masd"), math.inf),
    "nsd": 0.0,
}


@dataclass(frozen=True, slots=True)
class _Pair:
    reference: NDArray[np.integer[Any]]
    prediction: NDArray[np.integer[Any]]
    spacing: tuple[float, ...]

    @property
    def voxel_size(self) -> float:
        return math.prod(self.spacing)

    def masks(self, values: Sequence[int], box: Box, valid: BoolArray | None) -> tuple[BoolArray, BoolArray]:
        reference, prediction = (_members(array[box], values) for array in (self.reference, self.prediction))
        if valid is not None:
            reference, prediction = reference & valid[box], prediction & valid[box]
        return reference, prediction


def _scores(counts: overlap.Counts, surface: dict[str, float]) -> dict[str, Any]:
    return {name: getattr(overlap, name)(counts) for name in _OVERLAPS} | surface


def _count(reference: BoolArray, prediction: BoolArray, total: int) -> overlap.Counts:
    """Counts of cropped masks, with everything else of the ``total`` voxels as background of both."""
    counts = overlap.count_overlap(reference, prediction)
    return overlap.Counts(counts.tp, counts.fp, counts.fn, total - counts.tp - counts.fp - counts.fn)


def _members(array: NDArray[Any], values: Sequence[int]) -> BoolArray:
    return array == values[0] if len(values) == 1 else np.isin(array, values)


def _as_labels(array: NDArray[Any]) -> NDArray[np.integer[Any]]:
    if array.dtype == np.bool_:
        return array.view(np.uint8)
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"a label map has dtype {array.dtype}, expected integers")
    return array


def _check_values(name: str, values: Sequence[int], ignore_value: int | None) -> None:
    if not values:
        raise ValueError(f"label {name!r} has no values, expected at least one")
    if ignore_value in values:
        raise ValueError(f"label {name!r} has values {list(values)}, among them the ignored {ignore_value}")


def _tolerance_of(name: str, tolerance_mm: Tolerance) -> float:
    if not isinstance(tolerance_mm, Mapping):
        return check_tolerance(tolerance_mm)
    if name not in tolerance_mm:
        raise ValueError(f"tolerance_mm has no value for label {name!r}, only for {sorted(tolerance_mm)}")
    return check_tolerance(tolerance_mm[name])
