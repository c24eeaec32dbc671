"""Lesion scores as two challenges define them: BraTS 2023 and autoPET."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.checks import BoolArray, as_mask, check_shapes, check_spacing
from medseg.metrics.geometry.bounding_box import Box, crop_pair, joint_box
from medseg.metrics.lesions.components import InstanceArray
from medseg.metrics.lesions.detection import BratsChallenge
from medseg.metrics.overlap import dice_score
from medseg.metrics.surface import hausdorff_percentile, surface_distances
from medseg.metrics.typed_wrappers import component_boxes, components, dilated

WORST_HD95_MM = 374.0
"""Distance of a missed or false lesion: about the diagonal of the images of BraTS, 240 × 240 × 155 mm."""

_AUTOPET_CONNECTIVITY = 18


@dataclass(frozen=True, slots=True)
class _Rules:
    """Number of dilations that join lesions, and the volume up to which a lesion is left out."""

    dilations: int
    smallest_mm3: float


_RULES: dict[BratsChallenge, _Rules] = {
    "GLI": _Rules(3, 50.0),
    "SSA": _Rules(3, 50.0),
    "MEN": _Rules(1, 50.0),
    "PED": _Rules(3, 50.0),
    "MET": _Rules(1, 2.0),
}


def brats_lesion_scores(
    reference: NDArray[Any], prediction: NDArray[Any], spacing: Sequence[float], challenge: BratsChallenge
) -> dict[str, float]:
    """Compute the lesion-wise scores of BraTS 2023 for one region.

    The reference's components are joined where they touch after dilation. Every predicted component that
    touches a dilated lesion belongs to it. Lesions up to 50 mm³ (MET: 2 mm³) are left out. Predicted components
    that belong to no lesion count with Dice 0 and 374 mm, missed lesions as well. Source: the challenge's
    evaluation code, https://github.com/rachitsaluja/BraTS-2023-Metrics.

    Args:
        reference: mask (*S), 3 axes.
        prediction: mask (*S).
        spacing: mm per array axis.
        challenge: which of the challenges' rules, such as ``GLI``.

    Returns:
        Keys: brats_dice, brats_hd95 (mm); brats_tp, brats_fn (lesions of the reference), brats_fp (predicted
        components). Without lesions and false positives: Dice 1 and 0 mm.

    Raises:
        ValueError: if the shapes differ, the arrays do not have 3 axes or the challenge is unknown.
    """
    check_shapes(reference, prediction)
    voxel_mm = check_spacing(spacing, reference.ndim)
    if reference.ndim != 3:
        raise ValueError(f"got an array of {reference.ndim} axes; the rules of BraTS are for 3")
    if challenge not in _RULES:
        raise ValueError(f"challenge is {challenge!r}, expected one of {get_args(BratsChallenge)}")
    rules = _RULES[challenge]
    masks = crop_pair(as_mask(reference), as_mask(prediction))
    # room for the dilation, as at the borders of an image that is not cropped
    one, two = (np.pad(mask, rules.dilations) for mask in masks)
    lesions = np.where(one, components(dilated(one, rules.dilations)), 0)
    predicted = components(two)
    pair = _Pair(lesions, predicted, component_boxes(predicted, int(predicted.max(initial=0))), voxel_mm)
    scores = [
        _lesion(pair, index, box, rules.dilations)
        for index, box in enumerate(component_boxes(lesions, int(lesions.max(initial=0))), start=1)
    ]
    claimed = set[int]().union(*(score.claimed for score in scores))
    false = len(pair.boxes) - len(claimed)
    counted = [score for score in scores if score.volume > rules.smallest_mm3]
    total = len(counted) + false
    distance = sum(score.hd95 if score.claimed else WORST_HD95_MM for score in counted)
    return {
        "brats_dice": sum(score.dice for score in counted) / total if total else 1.0,
        "brats_hd95": (distance + false * WORST_HD95_MM) / total if total else 0.0,
        "brats_tp": sum(bool(score.claimed) for score in counted),
        "brats_fn": sum(not score.claimed for score in counted),
        "brats_fp": false,
    }


@dataclass(frozen=True, slots=True)
class _Lesion:
    claimed: frozenset[int]
    volume: float
    dice: float
    hd95: float


@dataclass(frozen=True, slots=True)
class _Pair:
    """Lesions of the reference, predicted components and their boxes, mm per axis."""

    lesions: InstanceArray
    predicted: InstanceArray
    boxes: Sequence[Box]
    spacing: tuple[float, ...]


def _lesion(pair: _Pair, index: int, box: Box, dilations: int) -> _Lesion:
    """Score one lesion of the reference with the predicted components that touch it after dilation."""
    near = tuple(slice(max(0, part.start - dilations), part.stop + dilations) for part in box)
    touched = pair.predicted[near][dilated(pair.lesions[near] == index, dilations)]
    claimed: list[int] = np.unique(touched[touched > 0]).tolist()
    volume = float(np.count_nonzero(pair.lesions[box] == index)) * math.prod(pair.spacing)
    if not claimed:
        return _Lesion(frozenset(), volume, 0.0, math.inf)
    crop = reduce(joint_box, [pair.boxes[number - 1] for number in claimed], box)
    lesion, found = pair.lesions[crop] == index, np.isin(pair.predicted[crop], claimed)
    hd95 = hausdorff_percentile(surface_distances(lesion, found, pair.spacing), 95)
    return _Lesion(frozenset(claimed), volume, dice_score(lesion, found), hd95)


def autopet_volumes(reference: NDArray[Any], prediction: NDArray[Any]) -> tuple[int, int]:
    """Return the voxels of false-positive and of false-negative components, as autoPET defines them.

    A predicted component without overlap with the reference is false-positive, a component of the reference
    without overlap with the prediction false-negative; components have 18 neighbors in 3D, 8 in 2D. The
    challenge multiplies them by the voxel's volume. Source: Gatidis et al. 2024,
    doi:10.1038/s42256-024-00912-9, and https://github.com/lab-midas/autoPET.

    Args:
        reference: mask (*S), 2 or 3 axes.
        prediction: mask (*S).

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> import numpy as np
        >>> autopet_volumes(np.array([[1, 1, 0, 1, 1]]), np.array([[0, 1, 0, 0, 0]]))
        (0, 2)
    """
    check_shapes(reference, prediction)
    one, two = crop_pair(as_mask(reference), as_mask(prediction))
    return _untouched_voxels(two, one), _untouched_voxels(one, two)


def _untouched_voxels(mask: BoolArray, other: BoolArray) -> int:
    """Return the number of voxels in the components of a mask that do not overlap another mask."""
    labels = components(mask, _AUTOPET_CONNECTIVITY if mask.ndim == 3 else None)
    sizes = np.bincount(labels.ravel(), minlength=1)
    sizes[np.bincount(labels[other], minlength=1).nonzero()] = 0
    sizes[0] = 0
    return int(sizes.sum())
