"""All metrics of one case in one pass.

Each label is cropped to its foreground once; its surfaces, neighbor codes and components are computed once and
shared by the metrics that need them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.metrics import overlap
from medseg.metrics.case.conventions import boundary_scores, follow_convention
from medseg.metrics.case.options import DEFAULT_MEASURES, MeasureOptions, Unit
from medseg.metrics.case.pair import MaskPair, contiguous
from medseg.metrics.checks import BoolArray, check_shapes, check_spacing
from medseg.metrics.geometry.bounding_box import Box, joint_box, label_box, value_boxes
from medseg.metrics.geometry.rim import rim
from medseg.metrics.lesions.challenges import autopet_volumes, brats_lesion_scores
from medseg.metrics.lesions.detection import detection_scores, stratum_sensitivities
from medseg.metrics.probabilities.calibration import binary_calibration
from medseg.metrics.topology.betti import betti_from_codes
from medseg.metrics.topology.centerline import centerline_dice

LabelArray = NDArray[np.integer[Any]]

_LESION_COLUMNS = {
    "n_reference": "lesions_reference",
    "n_prediction": "lesions_predicted",
    "mean_iou": "lesion_iou",
    "mean_dice": "lesion_dice",
}


def measure_case(
    reference: NDArray[Any],
    prediction: NDArray[Any],
    labels: Mapping[str, Sequence[int]],
    spacing: Sequence[float] | None,
    options: MeasureOptions = DEFAULT_MEASURES,
    probabilities: Mapping[str, NDArray[Any]] | None = None,
) -> list[dict[str, Any]]:
    """Compute the requested metrics of every label of one case.

    Args:
        reference: integer label map (*S), 2 or 3 axes.
        prediction: integer label map (*S).
        labels: name → values; a name with several values is a region, measured as their union.
        spacing: mm per array axis. If None, distances and tolerances are in pixels.
        options: groups of metrics, tolerances, conventions.
        probabilities: name → probability (*S) of the label, for the group ``calibration``.

    Returns:
        One row per label, in the order of ``labels``. Columns: label (the values joined by "+"), name, those of
        each group (``metric_info`` has their definitions), the sizes of both masks, tp, fp, fn, tn (voxels).

    Raises:
        ValueError: if the shapes differ, an array is not of integers, probabilities are missing or an option is
            invalid.

    Example:
        >>> import numpy as np
        >>> reference, prediction = np.array([[0, 1], [0, 2]]), np.array([[1, 1], [0, 2]])
        >>> rows = measure_case(reference, prediction, {"organ": [1], "lesion": [2]}, (1.0, 1.0))
        >>> [(row["name"], round(row["dice"], 3)) for row in rows]
        [('organ', 0.667), ('lesion', 1.0)]
    """
    unit: Unit = "px" if spacing is None else "mm"
    images = _images(reference, prediction, spacing, options.ignore_value)
    for name, values in labels.items():
        check_values(name, values, options.ignore_value)
        options.tolerance_of(name)
    if "calibration" in options.groups:
        _check_probabilities(labels, probabilities)
    columns = size_columns(reference.ndim, unit)
    rows: list[dict[str, Any]] = []
    for name, pair in images.pairs(labels):
        scores = follow_convention(_group_scores(name, pair, options), pair, options)
        if "calibration" in options.groups and probabilities is not None:
            scores |= images.calibration(labels[name], probabilities[name])
        counts, voxel = pair.counts, math.prod(pair.spacing)
        sizes = dict(zip(columns, (counts.reference * voxel, counts.prediction * voxel), strict=True))
        identity = {"label": "+".join(str(value) for value in labels[name]), "name": name}
        rows.append(identity | scores | sizes | asdict(counts))
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


def check_values(name: str, values: Sequence[int], ignore_value: int | None) -> None:
    """Raise ValueError if a label has no values or contains the ignored one."""
    if not values:
        raise ValueError(f"label {name!r} has no values, expected at least one")
    if ignore_value in values:
        raise ValueError(f"label {name!r} has values {list(values)}, including the ignored {ignore_value}")


@dataclass(frozen=True, slots=True)
class _Images:
    """The label maps of a case."""

    reference: LabelArray
    prediction: LabelArray
    spacing: tuple[float, ...]
    valid: BoolArray | None

    def pairs(self, labels: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, MaskPair]]:
        """Yield the name and the cropped masks of each label."""
        values = [value for group in labels.values() for value in group]
        boxes = [value_boxes(array, values) for array in (self.reference, self.prediction)]
        total = self.reference.size if self.valid is None else int(np.count_nonzero(self.valid))
        for name, group in labels.items():
            box = joint_box(*(label_box(one, group) for one in boxes))
            yield name, MaskPair(*self._masks(group, box), self.spacing, total)

    def calibration(self, values: Sequence[int], probability: NDArray[Any]) -> dict[str, float]:
        """Return the calibration of the probability of a label over all voxels that count."""
        if probability.shape != self.reference.shape:
            raise ValueError(
                f"a probability map has shape {probability.shape}, expected the label map's "
                f"{self.reference.shape}"
            )
        mask = members(self.reference, values)
        if self.valid is not None:
            probability, mask = probability[self.valid], mask[self.valid]
        return binary_calibration(probability, mask)

    def _masks(self, values: Sequence[int], box: Box) -> tuple[BoolArray, BoolArray]:
        masks = [members(array[box], values) for array in (self.reference, self.prediction)]
        if self.valid is not None:
            masks = [mask & self.valid[box] for mask in masks]
        return contiguous(masks[0]), contiguous(masks[1])


def members(array: NDArray[Any], values: Sequence[int]) -> BoolArray:
    """Return the mask of the voxels that have one of the values."""
    return array == values[0] if len(values) == 1 else np.isin(array, values)


def as_labels(array: NDArray[Any]) -> LabelArray:
    """Return a label map of integers; a boolean array is viewed as 0 and 1.

    Raises:
        ValueError: if the array has another type.
    """
    if array.dtype == np.bool_:
        return array.view(np.uint8)
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"a label map has dtype {array.dtype}, expected integers")
    return array


def _images(
    reference: NDArray[Any],
    prediction: NDArray[Any],
    spacing: Sequence[float] | None,
    ignore_value: int | None,
) -> _Images:
    check_shapes(reference, prediction)
    spacing = check_spacing((1.0,) * reference.ndim if spacing is None else spacing, reference.ndim)
    one, two = as_labels(reference), as_labels(prediction)
    return _Images(one, two, spacing, None if ignore_value is None else one != ignore_value)


def _check_probabilities(
    labels: Mapping[str, Sequence[int]], probabilities: Mapping[str, NDArray[Any]] | None
) -> None:
    missing = [name for name in labels if probabilities is None or name not in probabilities]
    if missing:
        raise ValueError(f"the group calibration needs probabilities; there are none for {missing}")


def _group_scores(name: str, pair: MaskPair, options: MeasureOptions) -> dict[str, float]:
    """Compute the groups of metrics that need masks only."""
    scores: dict[str, float] = {}
    if "overlap" in options.groups:
        scores |= _overlap(pair.counts, options.beta)
    if "boundary" in options.groups:
        tolerance = options.tolerance_of(name)
        width = tolerance if options.boundary_iou_mm is None else options.boundary_iou_mm
        scores |= boundary_scores(pair.distances(options.elements), tolerance, options)
        scores["boundary_iou"] = _boundary_iou(pair, width)
    if "topology" in options.groups:
        scores |= _topology(pair)
    if "lesions" in options.groups:
        scores |= _lesions(pair, options)
    return scores


def _overlap(counts: overlap.Counts, beta: float) -> dict[str, float]:
    return {
        "dice": overlap.dice(counts),
        "iou": overlap.iou(counts),
        "precision": overlap.precision(counts),
        "recall": overlap.recall(counts),
        "specificity": overlap.specificity(counts),
        "accuracy": overlap.accuracy(counts),
        "f_beta": overlap.f_beta(counts, beta),
        "volume_similarity": overlap.volume_similarity(counts),
        "relative_volume_difference": overlap.relative_volume_difference(counts),
        "kappa": overlap.cohens_kappa(counts),
        "mcc": overlap.matthews_correlation(counts),
    }


def _boundary_iou(pair: MaskPair, width_mm: float) -> float:
    rims = (rim(mask, pair.spacing, width_mm) for mask in (pair.reference, pair.prediction))
    return overlap.iou(overlap.count_overlap(*rims))


def _topology(pair: MaskPair) -> dict[str, float]:
    """Compute clDice and the absolute differences of the Betti numbers."""
    masks = (pair.reference, pair.prediction)
    one, two = (
        betti_from_codes(mask, codes, int(parts.max(initial=0)))
        for mask, codes, parts in zip(masks, pair.codes, pair.components, strict=True)
    )
    errors = {f"betti{k}_error": float(abs(a - b)) for k, (a, b) in enumerate(zip(one, two, strict=True))}
    return {"cldice": centerline_dice(*masks)} | errors


def _lesions(pair: MaskPair, options: MeasureOptions) -> dict[str, float]:
    settings, voxel = options.lesions, math.prod(pair.spacing)
    scores = {
        _LESION_COLUMNS.get(key, f"lesion_{key}"): value
        for key, value in detection_scores(pair.overlaps, settings.min_iou).items()
    }
    strata = stratum_sensitivities(pair.overlaps, voxel, settings)
    scores |= {f"lesion_sensitivity_{name}": value for name, value in strata.items()}
    false_positive, false_negative = autopet_volumes(pair.reference, pair.prediction)
    scores |= {"fp_volume": false_positive * voxel, "fn_volume": false_negative * voxel}
    if settings.brats is not None:
        scores |= brats_lesion_scores(pair.reference, pair.prediction, pair.spacing, settings.brats)
    return scores
