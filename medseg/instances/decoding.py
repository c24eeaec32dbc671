"""From the output of a network to the objects of an image: the classes' and the head's part of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medseg.geometry import Array
from medseg.instances.heads.base import InstanceHead
from medseg.instances.label_maps import renumber
from medseg.instances.options import InstanceDecoding
from medseg.instances.result import Instances


@dataclass(frozen=True)
class DenseOutput:
    """The output of a network for an image.

    Attributes:
        probabilities: (K, *S) of the classes, background first.
        maps: (G, *S) of the dense head.
        spacing: distance between voxels along each axis, mm.
    """

    probabilities: Array
    maps: Array
    spacing: tuple[float, ...]

    @classmethod
    def split(cls, output: Array, classes: int, spacing: Sequence[float]) -> DenseOutput:
        """Return the parts of an output (K + G, *S)."""
        return cls(output[:classes], output[classes:], tuple(spacing))

    def with_maps(self, maps: Array) -> DenseOutput:
        """Return the output with other maps."""
        return replace(self, maps=maps)

    @property
    def foreground(self) -> Array:
        """(*S) float32, the probability of any class but the background."""
        return np.asarray(1 - self.probabilities[0], np.float32)


def decode_instances(head: InstanceHead, output: DenseOutput, options: InstanceDecoding) -> Instances:
    """Decode the objects of an image.

    Small and unlikely objects are left out. The class of an object is the most likely one over its voxels.
    """
    decoded = head.decode(output.foreground, output.maps, output.spacing, options)
    sizes = np.bincount(decoded.label_map.ravel(), minlength=len(decoded.scores) + 1)
    kept = sizes * float(np.prod(output.spacing)) >= max(options.smallest, 1e-12)
    scores = calibrate(decoded.scores, options.calibration)
    kept[1:] &= scores >= options.score
    label_map, old = renumber(decoded.label_map, kept)
    classes = likeliest_classes(output.probabilities, label_map, len(old))
    return Instances.from_label_map(label_map, classes, scores[old - 1], spacing=output.spacing)


def calibrate(scores: Array, calibration: tuple[float, float]) -> NDArray[np.float64]:
    """Return scores (N,) as probabilities: sigmoid(slope · logit(score) + offset).

    Example:
        >>> calibrate(np.array([0.5, 0.9]), (1.0, 0.0)).round(3).tolist()
        [0.5, 0.9]
    """
    slope, offset = calibration
    return 1 / (1 + np.exp(-(slope * score_logits(scores) + offset)))


def score_logits(scores: Array) -> NDArray[np.float64]:
    """Return the logits of scores (N,), which are finite also for 0 and 1."""
    share = np.clip(np.asarray(scores, np.float64), 1e-4, 1 - 1e-4)
    return np.log(share / (1 - share))


def likeliest_classes(probabilities: Array, label_map: Array, count: int) -> Array:
    """Return the class of each object 1 … ``count``: the one with the highest sum of probabilities."""
    if len(probabilities) == 2:
        return np.ones(count, np.int64)
    flat = label_map.ravel()
    sums = [np.bincount(flat, one.ravel().astype(np.float64), count + 1)[1:] for one in probabilities[1:]]
    return 1 + np.argmax(sums, axis=0) if count else np.zeros(0, np.int64)
