"""The scale at which a picture without spacing shows objects of the training's size.

Microscopes and cameras magnify differently, and pictures do not record it. A picture is segmented at several
scales; the scale is chosen at which the predicted objects have the size of the training's objects and the
network is confident. Each trial covers at most ``TRIAL_PIXELS``, which bounds the time per picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.pipeline import resize_picture
from medseg.geometry import Array
from medseg.inference.shift.features import Values
from medseg.inference.shift.fingerprint import Distribution, TrainingFingerprint
from medseg.inference.shift.objects import measure_objects
from medseg.inference.sliding_window.prediction import decide

Rescale = Literal["auto"] | float

SCALES = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
"""Factors that are tried."""
TRIAL_PIXELS = 448 * 448
"""Largest number of pixels of the part of a picture that is segmented at one scale."""

_SMALLEST_SPREAD = 0.15
"""Smallest standard deviation of the logarithm of the training's object sizes."""
_CONFIDENCE_WEIGHT = 10.0
"""Weight of the logarithm of the confidence against the log-likelihood of the object size."""
_CONSISTENCY = 0.3
"""Standard deviation of the logarithm of the sizes at two neighboring scales, brought to one scale."""
_KEEP = 2.0
"""Advantage that another scale needs over the original one."""
_LEAST = -5.0
"""Smallest score of a scale that is chosen; below, the network is not certain of objects of a fitting size."""


Predict = Callable[[Array], torch.Tensor]
"""Maps a preprocessed picture (C, h, w) to probabilities (K, h, w), and further maps (G, h, w) of objects."""
Separate = Callable[[torch.Tensor], Array]
"""Maps what :data:`Predict` returns to numbers of objects (h, w)."""


@dataclass(frozen=True)
class Candidate:
    """A scale that was tried.

    Attributes:
        factor: the scale.
        sizes: label → median object size at this scale, pixels.
        confidence: of the network.
        score: rating (:func:`rate`); None without objects.
    """

    factor: float
    sizes: dict[str, float]
    confidence: float
    score: float | None = None


@dataclass(frozen=True)
class ScaleChoice:
    """The scale at which a picture is segmented.

    Attributes:
        requested: ``auto`` or a factor.
        factor: the scale; above 1, the picture is enlarged.
        candidates: the scales that were tried.
    """

    requested: Rescale
    factor: float
    candidates: tuple[Candidate, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values for the provenance record."""
        content: dict[str, Any] = {"requested": self.requested, "factor": self.factor}
        if self.candidates:
            content["candidates"] = [
                {
                    "factor": one.factor,
                    "object_size": {name: round(size, 2) for name, size in one.sizes.items()},
                    "confidence": round(one.confidence, 4),
                    "score": None if one.score is None else round(one.score, 3),
                }
                for one in self.candidates
            ]
        return content


def estimate_scale(
    image: Array,
    predict: Predict,
    labels: LabelSchema,
    targets: Mapping[str, Distribution],
    *,
    restandardize: bool,
    separate: Separate | None = None,
) -> ScaleChoice:
    """Estimate the scale at which a picture shows objects of the training's size.

    The original scale is kept unless another one is clearly better.

    Args:
        image: (C, H, W), preprocessed.
        predict: the network.
        labels: of the network.
        targets: label → object sizes in the training (:func:`size_targets`).
        restandardize: whether the normalization depends on the picture, so that a reduced picture, which is
            smoother, gets its former standard deviation.
        separate: tells objects apart; None: they are the connected components of a label.
    """
    trials: list[Candidate] = []
    for factor in SCALES:
        output = predict(_part(image, factor, restandardize))
        objects = None if separate is None else separate(output)
        trials.append(measure_trial(factor, output[: labels.num_classes], labels, objects))
    candidates = rate(trials, targets)
    return ScaleChoice("auto", choose(candidates), candidates)


def choose(candidates: tuple[Candidate, ...]) -> float:
    """Return the factor of the best candidate; 1 if none is good, or none is clearly better than 1."""
    scored = {one.factor: one.score for one in candidates if one.score is not None}
    if not scored:
        return 1.0
    best = max(scored, key=lambda factor: (scored[factor], -abs(math.log(factor))))
    needed = max(_LEAST, scored.get(1.0, -math.inf) + _KEEP)
    return best if scored[best] >= needed else 1.0


def size_targets(fingerprint: TrainingFingerprint, values: Values | None = None) -> dict[str, Distribution]:
    """Return the distribution of the median object size of each label.

    Args:
        fingerprint: of the training.
        values: features of a picture; training pictures that are similar count, where they have objects.
    """
    prefix, targets = "object_size:", dict[str, Distribution]()
    similar = None if values is None else fingerprint.similar_cases(values)
    for name in fingerprint.features:
        if not name.startswith(prefix):
            continue
        sizes = fingerprint.column(name)
        if similar is not None and np.isfinite(sizes[similar]).any():
            sizes = sizes[similar]
        targets[name.removeprefix(prefix)] = Distribution.of(sizes[np.isfinite(sizes)])
    return targets


def confidence_of(probabilities: torch.Tensor, activation: str) -> float:
    """Return how certain a network is of its decisions: the Dice of the probabilities and the decisions.

    The mean over the classes that are present, without the first class of a softmax. 1 if every probability is
    0 or 1; 0 if nothing is found.

    Args:
        probabilities: (K, *S).
        activation: ``softmax`` or ``sigmoid``.
    """
    if activation == "softmax":
        classes = probabilities.argmax(dim=0)
        pairs = [(probabilities[k], classes == k) for k in range(1, len(probabilities))]
    else:
        pairs = [(p, p > 0.5) for p in probabilities]
    dice = [float(2 * p[chosen].sum() / (p.sum() + chosen.sum())) for p, chosen in pairs if bool(chosen.any())]
    return sum(dice) / len(dice) if dice else 0.0


def measure_trial(
    factor: float, probabilities: torch.Tensor, labels: LabelSchema, separated: Array | None = None
) -> Candidate:
    """Measure the objects at a scale.

    Args:
        factor: the scale.
        probabilities: (K, h, w) at this scale.
        labels: of the network.
        separated: (h, w) numbers of the objects; None: connected components.
    """
    decisions = decide(probabilities, labels.activation, 0.5).numpy()
    label_map = labels.paint(decisions) if labels.regions else labels.decode(decisions[0])
    objects = measure_objects(label_map, labels.evaluated, (1.0, 1.0), separated)
    sizes = {name: one.median for name, one in objects.items() if one.median is not None}
    return Candidate(factor, sizes, confidence_of(probabilities, labels.activation))


def rate(trials: Sequence[Candidate], targets: Mapping[str, Distribution]) -> tuple[Candidate, ...]:
    """Rate each scale by the sizes of its objects, their agreement with the next scale, and the confidence.

    A network that recognizes the objects finds them half as large at half the scale. Where it does not, it
    labels noise, or joins objects to one: such sizes do not change with the scale.

    Args:
        trials: in the order of their scales.
        targets: label → object sizes in the training.
    """
    rated: list[Candidate] = []
    for index, trial in enumerate(trials):
        terms = [
            _fit(size, targets[name]) + _agreement(name, index, trials)
            for name, size in trial.sizes.items()
            if name in targets
        ]
        confidence = _CONFIDENCE_WEIGHT * math.log(max(trial.confidence, 1e-3))
        rated.append(replace(trial, score=sum(terms) / len(terms) + confidence if terms else None))
    return tuple(rated)


def _fit(size: float, target: Distribution) -> float:
    """Return the log-likelihood of an object size under a normal distribution of its logarithm."""
    spread = max(math.log(target.q75 / target.q25) / 1.349, _SMALLEST_SPREAD)
    return -0.5 * (math.log(size / target.median) / spread) ** 2


def _agreement(name: str, index: int, trials: Sequence[Candidate]) -> float:
    """Return the log-likelihood of a label's object size, given that at the neighboring scale nearest to it."""
    own = trials[index]
    apart = [
        abs(math.log(own.sizes[name] / own.factor * other.factor / other.sizes[name]))
        for other in (*trials[max(0, index - 1) : index], *trials[index + 1 : index + 2])
        if name in other.sizes
    ]
    return -0.5 * (min(apart) / _CONSISTENCY) ** 2 if apart else -0.5 / _CONSISTENCY**2


def _part(image: Array, factor: float, restandardize: bool) -> Array:
    """Return the part of a picture that is segmented at a scale: the one with most detail."""
    size = [max(1, round(n * factor)) for n in image.shape[1:]]
    share = min(1.0, math.sqrt(TRIAL_PIXELS / math.prod(size)))
    part = _busiest(image, tuple(max(1, round(n * share)) for n in image.shape[1:]))
    resized = resize_picture(part, (max(1, round(size[0] * share)), max(1, round(size[1] * share))))
    return _with_moments_of(resized, part) if restandardize else resized


def _busiest(image: Array, shape: tuple[int, ...]) -> Array:
    """Return the part of a picture, of a shape, in which the intensities vary most."""
    if shape == image.shape[1:]:
        return image
    step = max(1, min(shape) // 16)
    coarse = image[:, ::step, ::step].mean(axis=0, dtype=np.float32)
    energy = np.abs(np.diff(coarse, axis=0, append=coarse[-1:])) + np.abs(
        np.diff(coarse, axis=1, append=coarse[:, -1:])
    )
    rows, columns = (min(m, -(-n // step)) for n, m in zip(shape, coarse.shape, strict=True))
    sums = np.pad(energy.astype(np.float64), ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    total = sums[rows:, columns:] - sums[:-rows, columns:] - sums[rows:, :-columns] + sums[:-rows, :-columns]
    first = divmod(int(total.argmax()), total.shape[1])
    starts = [min(f * step, whole - n) for f, n, whole in zip(first, shape, image.shape[1:], strict=True)]
    box = tuple(slice(start, start + n) for start, n in zip(starts, shape, strict=True))
    return image[(slice(None), *box)]


def _with_moments_of(resized: Array, part: Array) -> Array:
    """Return a picture (C, h, w) with the mean and standard deviation of each channel of another."""
    axes = (1, 2)
    mean, std = (resized.mean(axis=axes, keepdims=True), resized.std(axis=axes, keepdims=True))
    scale = part.std(axis=axes, keepdims=True) / np.maximum(std, 1e-6)
    scaled = (resized - mean) * scale + part.mean(axis=axes, keepdims=True)
    return scaled.astype(np.float32)
