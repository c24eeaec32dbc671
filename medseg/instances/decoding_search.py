"""Choice of the thresholds of decoding on validation cases, and scores that are probabilities.

A score becomes the probability that the object matches a reference object with an IoU above 0.5, by a logistic
curve fitted to the validation cases (Platt 1999).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.geometry import Array
from medseg.instances.decoding import DenseOutput, calibrate, decode_instances, score_logits
from medseg.instances.heads.base import InstanceHead
from medseg.instances.matching import MatchedObjects, match_objects, mean_pooled_score, pooled_score
from medseg.instances.options import Decoder, InstanceDecoding

_SHARES = (0.3, 0.4, 0.5, 0.6, 0.7)
_SEARCHED: dict[Decoder, dict[str, tuple[float, ...]]] = {
    "flows": {"foreground": _SHARES, "flow_error": (0.4, 0.8, 1.6)},
    "distance": {"foreground": _SHARES, "rise": (0.05, 0.1, 0.15, 0.2, 0.3), "border": (0.0, 0.2, 0.4)},
    "rays": {"seed": _SHARES, "foreground": _SHARES, "overlap": (0.2, 0.4, 0.6)},
}
"""Thresholds that are searched, one after the other."""
_SMALL = 0.02
"""Share of the reference objects that are smaller than those called small."""
_LEAST_GAIN = 0.01
"""Gain for which a threshold is changed: half the standard error of a share of 600 objects, because thresholds
should not follow the chance of a few validation cases."""
_FEWEST = 20
"""Objects below which scores are not calibrated."""


@dataclass(frozen=True)
class ValidationOutput:
    """The output of a network for a validation case, and its objects.

    Attributes:
        output: of the network.
        objects: (*S) numbers of the reference objects.
        ignored: (*S) bool, voxels that do not count.
    """

    output: DenseOutput
    objects: Array
    ignored: Array


@dataclass(frozen=True)
class TunedDecoding:
    """Thresholds, and what they reach on the validation cases.

    Attributes:
        options: the thresholds.
        score: TP / (TP + FP + FN) at an IoU of 0.5, over all cases together.
        mean_score: its mean over IoU thresholds of 0.5 to 0.95.
    """

    options: InstanceDecoding
    score: float
    mean_score: float


def tune_decoding(
    head: InstanceHead, cases: Sequence[ValidationOutput], decoder: Decoder, options: InstanceDecoding
) -> TunedDecoding:
    """Choose the thresholds with the best mean score over the IoU thresholds, then calibrate the scores.

    Args:
        head: decodes the outputs.
        cases: the validation cases.
        decoder: name of the head's decoder.
        options: the thresholds to start from.
    """
    options = options.model_copy(update={"score": 0.0, "calibration": (1.0, 0.0)})
    trial = _Trial.of(head, cases, options)
    searched = _SEARCHED[decoder] | {"smallest": _sizes(cases)}
    for name, values in searched.items():
        for value in values:
            changed = trial.options.model_copy(update={name: value})
            if changed != trial.options:
                other = _Trial.of(head, cases, changed)
                if other.mean_score > trial.mean_score + _LEAST_GAIN:
                    trial = other
    calibration = fit_calibration(trial.scores, trial.matched)
    scores = calibrate(trial.scores, calibration)
    lowest = best_cut(scores, trial.matched, sum(one.reference for one in trial.matches))
    options = trial.options.model_copy(update={"calibration": calibration, "score": lowest})
    final = _Trial.of(head, cases, options)
    return TunedDecoding(options, pooled_score(final.matches), final.mean_score)


def _sizes(cases: Sequence[ValidationOutput]) -> tuple[float, ...]:
    """Return sizes below which objects may be dropped, in mm³ or pixels: shares of that of small references."""
    sizes = [np.bincount(case.objects.ravel())[1:] * float(np.prod(case.output.spacing)) for case in cases]
    present = np.concatenate([np.zeros(0), *(one[one > 0] for one in sizes)])
    if not len(present):
        return ()
    small = float(np.quantile(present, _SMALL))
    return tuple(round(share * small, 4) for share in (0.25, 0.5, 1.0))


def fit_calibration(scores: Array, matched: Array) -> tuple[float, float]:
    """Fit slope and offset of :func:`~medseg.instances.decoding.calibrate` by maximum likelihood.

    The targets are those of Platt (1999), which keep probabilities from 0 and 1. The curve rises: otherwise,
    or if there are few objects, or all or none match, scores stay as they are.

    Args:
        scores: (N,) of the predicted objects.
        matched: (N,) bool, whether each matches a reference object.
    """
    positive, negative = int(matched.sum()), int((~matched).sum())
    if len(scores) < _FEWEST or not positive or not negative:
        return 1.0, 0.0
    target = np.where(matched, (positive + 1) / (positive + 2), 1 / (negative + 2))
    features = np.stack([score_logits(scores), np.ones(len(scores))], axis=1)
    values = np.array([1.0, 0.0])
    for _ in range(50):
        chance = 1 / (1 + np.exp(-features @ values))
        curvature = (features * (chance * (1 - chance))[:, None]).T @ features + 1e-3 * np.eye(2)
        step = np.linalg.solve(curvature, features.T @ (target - chance) - 1e-3 * (values - [1, 0]))
        values = values + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-6:
            break
    slope, offset = values.tolist()
    return (round(slope, 4), round(offset, 4)) if slope > 0 else (1.0, 0.0)


def best_cut(scores: Array, matched: Array, reference: int) -> float:
    """Return the score below which objects are dropped for the best TP / (TP + FP + FN); 0 keeps all.

    Example:
        >>> best_cut(np.array([0.9, 0.8, 0.1]), np.array([True, True, False]), 2)
        0.45
    """
    if not len(scores):
        return 0.0
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(matched[order])
    values = hits / (reference + np.arange(1, len(order) + 1) - hits)
    best = len(values) - 1 - int(np.argmax(values[::-1]))  # of equal ones, the one that drops least
    if best == len(values) - 1 or values[best] < values[-1] + _LEAST_GAIN:
        return 0.0
    return round(float(scores[order][best] + scores[order][best + 1]) / 2, 4)


@dataclass(frozen=True)
class _Trial:
    """What thresholds reach: the matches of each case, and score and match of each predicted object."""

    options: InstanceDecoding
    matches: list[MatchedObjects]
    scores: NDArray[np.float64]
    matched: NDArray[np.bool_]

    @classmethod
    def of(cls, head: InstanceHead, cases: Sequence[ValidationOutput], options: InstanceDecoding) -> _Trial:
        matches: list[MatchedObjects] = []
        scores: list[Array] = [np.zeros(0)]
        matched: list[Array] = [np.zeros(0, bool)]
        for case in cases:
            found = decode_instances(head, case.output, options)
            pairs = match_objects(case.objects, found.label_map(), case.ignored)
            counted, hit = pairs.scored(found.scores)
            matches.append(pairs)
            scores.append(counted)
            matched.append(hit)
        return cls(options, matches, np.concatenate(scores), np.concatenate(matched))

    @property
    def mean_score(self) -> float:
        """Mean over the IoU thresholds; 0 without objects."""
        return float(np.nan_to_num(mean_pooled_score(self.matches)))
