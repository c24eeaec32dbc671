"""Validation: whole cases by sliding window, scored on the preprocessed grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import nn

from medseg.config import InferenceConfig
from medseg.data.cache import CachedCase
from medseg.data.labels import Labels
from medseg.data.preprocess import SliceConfig
from medseg.inference.backends import Setup, TorchBackend
from medseg.inference.window import decide, gather, score_planes

Scores = dict[str, float]
"""``dice``, ``iou`` (means over classes) and ``dice:NAME``, ``iou:NAME``; nan where no case holds a class."""


def validate(
    network: nn.Module,
    cases: Iterable[CachedCase],
    labels: Labels,
    settings: InferenceConfig,
    *,
    device: torch.device,
    dtype: torch.dtype | None,
    slices: SliceConfig | None = None,
    check: Callable[[], None] = lambda: None,
) -> Scores:
    """Dice and IoU per class, averaged over the cases that hold it or predict it.

    ``check`` is called before each case and may raise to end the validation.
    """
    predict = TorchBackend(network.eval(), Setup(device, dtype)).predict
    counts = []
    for case in cases:
        check()
        image = np.asarray(case.image)
        planes = score_planes(predict, image, settings, device=device, slices=slices)
        decided = gather(planes, image.shape[1:], lambda one: decide(one.sums, labels.activation))
        classes = np.asarray(case.label).astype(np.int64) - 1
        found = overlap_counts(torch.from_numpy(decided), torch.from_numpy(classes), labels)
        if case.known:  # a label nobody drew in this case has no score in it
            found[~torch.tensor(case.known[-len(found) :])] = 0
        counts.append(found)
    return scores_of(torch.stack(counts), tuple(labels.evaluated))


def overlap_counts(decided: torch.Tensor, classes: torch.Tensor, labels: Labels) -> torch.Tensor:
    """(evaluated, 3) float64: intersection, predicted and reference voxels of each label or region.

    ``decided`` is (1, *S) classes or (R, *S) regions, ``classes`` (*S) with -1 for voxels that count nowhere.
    """
    known = classes >= 0
    if labels.regions:
        table = torch.from_numpy(labels.region_table)
        pairs = [(decided[r], table[r][classes.clamp(min=0)]) for r in range(len(table))]
    else:
        pairs = [(decided[0] == k, classes == k) for k in range(labels.first_evaluated, len(labels.names))]
    rows = [[(p & r & known).sum(), (p & known).sum(), (r & known).sum()] for p, r in pairs]
    return torch.tensor([[int(n) for n in row] for row in rows], dtype=torch.float64)


def scores_of(counts: torch.Tensor, names: tuple[str, ...]) -> Scores:
    """Mean scores from (cases, labels, 3) counts."""
    both, predicted, reference = counts.unbind(dim=-1)
    dice = 2 * both / (predicted + reference)  # 0/0 is nan: neither holds the label
    iou = both / (predicted + reference - both)
    scores: Scores = {}
    for key, values in (("dice", dice), ("iou", iou)):
        per_label = values.nanmean(dim=0)
        scores[key] = float(per_label.nanmean())
        scores |= {f"{key}:{name}": float(v) for name, v in zip(names, per_label, strict=True)}
    return scores


def dice_of_classes(scores: Scores, labels: Labels) -> dict[str, float]:
    """The Dice of each label of a file; of one that lies in regions, the mean of the regions that hold it."""
    if not labels.regions:
        return {name: scores[f"dice:{name}"] for name in labels.evaluated}
    held = {n: [scores[f"dice:{r}"] for r, ms in labels.regions.items() if n in ms] for n in labels.names}
    return {name: sum(found) / len(found) for name, found in held.items() if found}


def better(score: float, best: float | None) -> bool:
    """Whether a score is better than the best so far; nan never is, unless there is none yet."""
    if best is None:
        return True
    if math.isnan(score):
        return False
    return math.isnan(best) or score > best
