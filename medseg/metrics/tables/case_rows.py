"""One row of scores per case and label, as written to ``cases.csv``."""

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
"""One tolerance, or one per label name."""

Unit = Literal["mm", "px"]
"""Unit of distances: mm, or pixels if the spacing is unknown."""


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """How the scores of a label are computed.

    Attributes:
        tolerance_mm: tolerance of the surface Dice in mm (in pixels without spacing): one value, or one per
            name.
        surface: ``surfel`` (elements weighted by area) or ``voxel`` (border voxels).
        ignore_value: reference value of voxels to leave out; for surfaces they are background of both masks.
    """

    tolerance_mm: Tolerance = 1.0
    surface: Surface = "surfel"
    ignore_value: int | None = None


DEFAULT_SCORES = ScoreOptions()


def case_rows(
    case: str,
    reference: NDArray[Any],
    prediction: NDArray[Any],
    labels: Mapping[str, Sequence[int]],
    spacing: Sequence[float] | None,
    options: ScoreOptions = DEFAULT_SCORES,
) -> list[dict[str, Any]]:
    """Compute the scores of every label of one case.

    Args:
        case: id of the case.
        reference: integer label map (*S), 2 or 3 axes.
        prediction: integer label map (*S).
        labels: name → values; a name with several values is a region, scored as their union.
        spacing: mm per array axis. If None, distances and tolerances are in pixels.
        options: tolerance, surface elements, ignored value.

    Returns:
        One row per label, in the order of ``labels``. Keys: case, label (the values joined by "+"), name, dice,
        iou, precision, recall, specificity, volume_similarity, hd, hd95, assd, masd (mm or pixels), nsd, the
        sizes of both masks (see ``size_columns``), tp, fp, fn, tn (voxels).

    Raises:
        ValueError: if the shapes differ, an array is not of integers, or an option is invalid.

    Example:
        >>> import numpy as np
        >>> reference, prediction = np.array([[0, 1], [0, 2]]), np.array([[1, 1], [0, 2]])
        >>> rows = case_rows("a", reference, prediction, {"organ": [1], "lesion": [2]}, (1.0, 1.0))
        >>> [(row["name"], round(row["dice"], 3)) for row in rows]
        [('organ', 0.667), ('lesion', 1.0)]
    """
    ignore_value = options.ignore_value
    check_shapes(reference, prediction)
    unit: Unit = "px" if spacing is None else "mm"
    spacing = check_spacing((1.0,) * reference.ndim if spacing is None else spacing, reference.ndim)
    pair = _Pair(_as_labels(reference), _as_labels(prediction), spacing)
    columns = size_columns(reference.ndim, unit)
    tolerances = {name: _tolerance_of(name, options.tolerance_mm) for name in labels}
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
        distances = surface_distances(*masks, pair.spacing, surface=options.surface)
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
    """Return the rows of a case without a prediction: the worst value of every score.

    Overlap scores and nsd are 0 and distances are inf, even for labels that the reference does not contain.
    tp, fp and tn are 0; fn is the number of voxels in the reference.

    Args:
        case: id of the case.
        reference: integer label map (*S), 2 or 3 axes.
        labels: name → values.
        spacing: mm per array axis. If None, sizes are in pixels.

    Raises:
        ValueError: as ``case_rows``.
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
    """Return the column names of both sizes: volumes in mm³, areas in mm² or pixels.

    Example:
        >>> size_columns(3, "mm")
        ('reference_volume_mm3', 'predicted_volume_mm3')
    """
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
    """Count the overlap of cropped masks; the rest of the ``total`` voxels is background of both."""
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
        raise ValueError(f"label {name!r} has values {list(values)}, including the ignored {ignore_value}")


def _tolerance_of(name: str, tolerance_mm: Tolerance) -> float:
    if not isinstance(tolerance_mm, Mapping):
        return check_tolerance(tolerance_mm)
    if name not in tolerance_mm:
        raise ValueError(f"tolerance_mm has no value for label {name!r}, only for {sorted(tolerance_mm)}")
    return check_tolerance(tolerance_mm[name])
