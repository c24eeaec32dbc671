"""How much the members of an ensemble, or the mirror images of a scan, disagree on its segmentation.

Where several plausible segmentations differ, a label teaches most (Gal et al. 2017, arXiv:1703.02910). Their
agreement, measured by the Dice of structures rather than by voxels, follows the quality of a segmentation (Roy
et al. 2019, arXiv:1811.09800).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, ClassVar

import numpy as np
import torch

from medseg.data.scans import Scan
from medseg.geometry import Array
from medseg.inference.backends import Backend, BackendInfo
from medseg.inference.model.ensemble.member import EnsembleMember
from medseg.inference.model.predictor import Predictor
from medseg.inference.model.protocols import Segmenter
from medseg.inference.sliding_window.tta import TTA

_MOST_VIEWS = 4


@dataclass(frozen=True)
class _MirroredBackend:
    """A backend that sees mirrored windows."""

    backend: Backend
    tta: TTA
    axes: tuple[int, ...]
    name: ClassVar[str] = "mirrored"

    @property
    def info(self) -> BackendInfo:
        return self.backend.info

    def predict(self, windows: torch.Tensor) -> torch.Tensor:
        return self.tta.view(self.backend.predict, self.axes)(windows)


def views(predictor: Segmenter[Any]) -> list[Segmenter[Any]]:
    """Return predictors whose results are compared: the members of an ensemble, or one that sees the scan as it
    is and those that see it mirrored along each axis of the training's mirror images.

    Without members and without mirror images in the training, the predictor itself is the only one.
    """
    if not isinstance(predictor, Predictor):
        return [predictor]
    if len(predictor.members) > 1:
        return [_alone(member, predictor) for member in predictor.members[:_MOST_VIEWS]]
    member = predictor.members[0]
    trained = member.header.augmentation
    axes = trained.mirror_axes if trained is not None else ()
    if member.receptive_field is not None or not axes:
        return [predictor]
    plain = _without_flips(member)
    mirrored = [_mirrored(plain, (axis,)) for axis in axes[: _MOST_VIEWS - 1]]
    return [_alone(one, predictor) for one in (plain, *mirrored)]


def _alone(member: EnsembleMember, predictor: Predictor) -> Predictor:
    """Return a predictor of one member, on the device of another predictor."""
    return Predictor(member, force=True, device=str(predictor.device))


def _without_flips(member: EnsembleMember) -> EnsembleMember:
    settings = member.header.inference.model_copy(update={"flips": (), "scales": ()})
    return replace(member, header=member.header.model_copy(update={"inference": settings}))


def _mirrored(member: EnsembleMember, axes: tuple[int, ...]) -> EnsembleMember:
    """Return a member that sees windows mirrored along axes."""
    header = member.header
    tta = TTA(
        flips=axes, mirrored_channels=header.labels.mirrored_classes, mirrored_inputs=header.mirrored_inputs,
        head=header.head,
    )  # fmt: skip
    backend: Any = _MirroredBackend(member.backend, tta, axes)
    return replace(member, backend=backend)


def disagreement(predictors: Sequence[Segmenter[Any]], scan: Scan) -> float:
    """Return how much predictors disagree on a scan, from 0 (the same label maps) to 1 (no voxel in common).

    It is 1 - Dice, averaged over pairs of predictors and over the labels that one of the pair finds. A single
    predictor is measured by the entropy of its probabilities, relative to the size of what it finds.

    Args:
        predictors: from :func:`views`.
        scan: the scan.
    """
    if len(predictors) == 1:
        return entropy(predictors[0], scan)
    maps = [one.run(one.prepare(scan)).label_map for one in predictors]
    background = predictors[0].header.labels.names
    first = next(iter(background.values()))
    return float(np.mean([mean_distance(a, b, set(first)) for a, b in combinations(maps, 2)]))


def mean_distance(a: Array, b: Array, ignored: set[int]) -> float:
    """Return 1 - Dice of two label maps, averaged over the values that one of them holds; 0 if there are none.

    Example:
        >>> round(mean_distance(np.array([0, 1, 1, 2]), np.array([0, 1, 0, 2]), {0}), 4)
        0.1667
    """
    values = sorted((set(np.unique(a).tolist()) | set(np.unique(b).tolist())) - ignored)
    if not values:
        return 0.0
    distances: list[float] = []
    for value in values:
        first, second = a == value, b == value
        distances.append(1 - 2 * int((first & second).sum()) / int(first.sum() + second.sum()))
    return float(np.mean(distances))


def entropy(predictor: Segmenter[Any], scan: Scan) -> float:
    """Return the entropy of a prediction, in nats, summed over voxels and divided by the expected foreground.

    It is 0 for models that give no probabilities.
    """
    if predictor.header.instances is not None:
        return 0.0
    probabilities = predictor.run(predictor.prepare(scan), probabilities=True).probabilities
    assert probabilities is not None
    p = np.clip(probabilities, 1e-7, 1)
    if predictor.header.labels.activation == "sigmoid":
        q = np.clip(1 - probabilities, 1e-7, 1)
        total, foreground = -float((p * np.log(p) + q * np.log(q)).sum()), float(p.sum())
    else:
        total, foreground = -float((p * np.log(p)).sum()), float(p[1:].sum())
    return total / (foreground + 1)
