"""Detection scores of lesions, which are the connected components of a mask."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.checks import BoolArray, as_mask, check_shapes, check_spacing
from medseg.metrics.geometry.bounding_box import bounding_box, crop_pair, joint_box
from medseg.metrics.lesions.components import Overlaps, component_overlaps, instance_overlaps
from medseg.metrics.typed_wrappers import component_boxes, components

BratsChallenge = Literal["GLI", "SSA", "MEN", "PED", "MET"]


@dataclass(frozen=True, slots=True)
class LesionOptions:
    """How lesions are matched and grouped.

    Attributes:
        min_iou: smallest IoU of a matched pair, above 0 and at most 1.
        size_edges: ascending volumes in mm³ (areas in mm² where the array is 2D) that separate size strata. The
            strata of (100, 1000) are ≤ 100, ≤ 1000 and > 1000.
        brats: challenge of BraTS 2023 whose lesion-wise rules are applied as well.

    Raises:
        ValueError: if an option is out of range.
    """

    min_iou: float = 0.1
    size_edges: tuple[float, ...] = ()
    brats: BratsChallenge | None = None

    def __post_init__(self) -> None:
        if not 0 < self.min_iou <= 1:
            raise ValueError(f"min_iou is {self.min_iou}, expected above 0 and at most 1")
        if any(edge <= 0 for edge in self.size_edges) or list(self.size_edges) != sorted(set(self.size_edges)):
            raise ValueError(f"size_edges are {self.size_edges}, expected ascending values above 0")

    def strata(self) -> list[str]:
        """Names of the size strata, such as ``<=100`` and ``>100``; empty without edges."""
        edges = [f"{edge:g}" for edge in self.size_edges]
        return [*(f"<={edge}" for edge in edges), f">{edges[-1]}"] if edges else []

    def strata_of(self, sizes: NDArray[np.floating[Any]]) -> NDArray[np.intp]:
        """Return the positions (N,) in ``strata`` of sizes (N,); 10⁻⁶ is subtracted for rounding."""
        return np.searchsorted(self.size_edges, sizes - 1e-6, side="left")


DEFAULT_LESIONS = LesionOptions()


def lesion_metrics(
    reference: NDArray[Any], prediction: NDArray[Any], *, min_iou: float = 0.1
) -> dict[str, float]:
    """Compute detection scores over the connected components of two masks (8 neighbors in 2D, 26 in 3D).

    Args:
        reference: mask (*S), 2 or 3 axes.
        prediction: mask (*S).
        min_iou: smallest IoU of a matched pair.

    Returns:
        Keys: n_reference, n_prediction (numbers of components); sensitivity_any, precision_any (fraction that
        overlaps any component of the other mask), f1_any (their harmonic mean), fp_any (predicted components
        without overlap); tp, fp, fn, sensitivity, precision, f1 of the one-to-one matching with the largest
        summed IoU; mean_iou of the matched pairs; mean_dice of the reference's components, each the best
        with one predicted component, 0 without overlap. 0 / 0 is nan.

    Raises:
        ValueError: if the shapes differ or do not have 2 or 3 axes, or min_iou is not in (0, 1].

    Example:
        >>> import numpy as np
        >>> scores = lesion_metrics(np.array([[1, 1, 0, 1]]), np.array([[1, 1, 0, 0]]))
        >>> scores["tp"], scores["fn"], scores["sensitivity"]
        (1, 1, 0.5)
    """
    options = LesionOptions(min_iou)
    return detection_scores(component_overlaps(*_cropped(reference, prediction)), options.min_iou)


def detection_scores(overlaps: Overlaps, min_iou: float) -> dict[str, float]:
    """Compute the scores of ``lesion_metrics`` from overlaps of components."""
    matched = overlaps.matched(min_iou)
    n_reference, n_prediction, tp = overlaps.n_reference, overlaps.n_prediction, len(matched)
    touched = int(overlaps.touched_prediction.sum())
    sensitivity_any = _ratio(int(overlaps.touched_reference.sum()), n_reference)
    precision_any = _ratio(touched, n_prediction)
    return {
        "n_reference": n_reference,
        "n_prediction": n_prediction,
        "sensitivity_any": sensitivity_any,
        "precision_any": precision_any,
        "f1_any": _harmonic_mean(sensitivity_any, precision_any, n_reference + n_prediction),
        "fp_any": n_prediction - touched,
        "tp": tp,
        "fp": n_prediction - tp,
        "fn": n_reference - tp,
        "sensitivity": _ratio(tp, n_reference),
        "precision": _ratio(tp, n_prediction),
        "f1": _ratio(2 * tp, n_reference + n_prediction),
        "mean_iou": _ratio(float(overlaps.ious[matched].sum()), tp),
        "mean_dice": _ratio(float(overlaps.best_dice().sum()), n_reference),
    }


def stratum_sensitivities(overlaps: Overlaps, voxel_size: float, options: LesionOptions) -> dict[str, float]:
    """Return the sensitivity of the one-to-one matching by the size of the reference's lesion.

    Args:
        overlaps: of components.
        voxel_size: mm³, or mm².
        options: size edges and smallest IoU.

    Returns:
        Name of the stratum → sensitivity; nan if the reference has no lesion of that size.
    """
    if not options.size_edges:
        return {}
    sizes = overlaps.reference_sizes * voxel_size
    detected = np.zeros(overlaps.n_reference, bool)
    detected[overlaps.rows[overlaps.matched(options.min_iou)]] = True
    stratum = options.strata_of(sizes)
    names = options.strata()
    return {
        name: _ratio(int(detected[stratum == index].sum()), int(np.count_nonzero(stratum == index)))
        for index, name in enumerate(names)
    }


def lesion_table(
    reference: NDArray[Any],
    prediction: NDArray[Any],
    spacing: Sequence[float],
    options: LesionOptions = DEFAULT_LESIONS,
) -> list[dict[str, Any]]:
    """List the lesions of the reference and whether they are detected.

    Args:
        reference: mask (*S), 2 or 3 axes.
        prediction: mask (*S).
        spacing: mm per array axis.
        options: smallest IoU of a match, size strata.

    Returns:
        One row per component, the largest first: lesion (from 1), size (mm³ or mm²), stratum (None without size
        edges), dice (the best with one predicted component), iou (of the matched component, 0 without), touched
        (overlaps any), detected (matched), center (voxel indices of the center of its bounding box).

    Raises:
        ValueError: if the shapes differ or the spacing is invalid.

    Example:
        >>> import numpy as np
        >>> rows = lesion_table(np.array([[1, 1, 0, 1]]), np.array([[1, 0, 0, 0]]), (1.0, 2.0))
        >>> [(row["size"], row["detected"], round(row["dice"], 3)) for row in rows]
        [(4.0, True, 0.667), (2.0, False, 0.0)]
    """
    voxel_size = math.prod(check_spacing(spacing, reference.ndim))
    check_shapes(reference, prediction)
    masks = as_mask(reference), as_mask(prediction)
    box = joint_box(bounding_box(masks[0]), bounding_box(masks[1]))
    lesions = components(masks[0][box])
    overlaps = instance_overlaps(lesions, components(masks[1][box]))
    centers = [
        tuple((part.start + part.stop - 1) / 2 + outer.start for part, outer in zip(inner, box, strict=True))
        for inner in component_boxes(lesions, overlaps.n_reference)
    ]
    return _lesion_rows(overlaps, centers, voxel_size, options)


def _lesion_rows(
    overlaps: Overlaps, centers: Sequence[tuple[float, ...]], voxel_size: float, options: LesionOptions
) -> list[dict[str, Any]]:
    ious = np.zeros(overlaps.n_reference)
    matched = overlaps.matched(options.min_iou)
    ious[overlaps.rows[matched]] = overlaps.ious[matched]
    sizes = overlaps.reference_sizes * voxel_size
    strata, positions = options.strata(), options.strata_of(sizes)
    dice = overlaps.best_dice()
    return [
        {
            "lesion": number,
            "size": float(sizes[index]),
            "stratum": strata[positions[index]] if strata else None,
            "dice": float(dice[index]),
            "iou": float(ious[index]),
            "touched": bool(overlaps.touched_reference[index]),
            "detected": bool(ious[index] > 0),
            "center": centers[index],
        }
        for number, index in enumerate(np.argsort(-sizes, kind="stable").tolist(), start=1)
    ]


def _cropped(reference: NDArray[Any], prediction: NDArray[Any]) -> tuple[BoolArray, BoolArray]:
    check_shapes(reference, prediction)
    if reference.ndim not in (2, 3):
        raise ValueError(f"got an array of {reference.ndim} axes, expected 2 or 3")
    return crop_pair(as_mask(reference), as_mask(prediction))


def _harmonic_mean(one: float, two: float, items: int) -> float:
    """Return the harmonic mean of sensitivity and precision; 0 if one side has no items, nan without any."""
    if not items:
        return math.nan
    if math.isnan(one) or math.isnan(two) or not one + two:
        return 0.0
    return 2 * one * two / (one + two)


def _ratio(numerator: float, denominator: int) -> float:
    return numerator / denominator if denominator else math.nan
