"""Validation: whole cases by sliding window, scored on the preprocessed grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from medseg.data.labels.schema import LabelSchema
from medseg.data.loading.cache import CachedCase
from medseg.data.preprocessing.pipeline import SliceConfig
from medseg.geometry import Array
from medseg.inference.backends import BackendSetup, TorchBackend
from medseg.inference.options import InferenceConfig
from medseg.inference.sliding_window.options import Execution, SlidingWindowOptions
from medseg.inference.sliding_window.output_chunk import assemble
from medseg.inference.sliding_window.prediction import decide, sliding_window_logits
from medseg.metrics.confusion import class_counts, confusion_matrix, region_counts
from medseg.metrics.overlap import Counts, dice, iou, mean_defined

Scores = dict[str, float]
"""``dice``, ``iou`` (means over classes) and ``dice:NAME``, ``iou:NAME``; nan where no case holds a class."""


def validate(
    network: nn.Module,
    cases: Iterable[CachedCase],
    labels: LabelSchema,
    settings: InferenceConfig,
    *,
    device: torch.device,
    dtype: torch.dtype | None,
    slices: SliceConfig | None = None,
    check: Callable[[int], None] = lambda number: None,
) -> Scores:
    """Dice and IoU per class, averaged over the cases that hold it or predict it.

    ``check`` is called before each case, with its number from 1, and may raise to end the validation.
    """
    predict = TorchBackend(network.eval(), BackendSetup(device, dtype)).predict
    options = replace(SlidingWindowOptions.from_config(settings, slices=slices), normalize=False)
    execution = Execution(device, settings.batch_size)
    counts: list[list[Counts | None]] = []
    for number, case in enumerate(cases, start=1):
        check(number)
        image = np.asarray(case.image)
        chunks = sliding_window_logits(predict, image, options, execution)
        decided = assemble(chunks, image.shape[1:], lambda chunk: decide(chunk.tensor, labels.activation))
        found = overlap_counts(decided, np.asarray(case.label).astype(np.int64) - 1, labels)
        known = case.annotated[-len(found) :] or (True,) * len(found)
        counts.append([one if told else None for one, told in zip(found, known, strict=True)])
    return scores_of(counts, tuple(labels.evaluated))


def overlap_counts(decided: Array, classes: Array, labels: LabelSchema) -> list[Counts]:
    """The voxel counts of each label or region that is evaluated, in one pass over the voxels.

    ``decided`` is (1, *S) classes or (R, *S) regions, ``classes`` (*S) with -1 for voxels that count nowhere.
    """
    if labels.regions:
        return region_counts(classes, decided.astype(bool, copy=False), labels.region_table, ignore_index=-1)
    matrix = confusion_matrix(classes, decided[0], len(labels.names), ignore_index=-1)
    return class_counts(matrix)[labels.first_evaluated :]


def scores_of(counts: Sequence[Sequence[Counts | None]], names: tuple[str, ...]) -> Scores:
    """Mean scores from the counts of each case and label; none where a label was not annotated in a case.

    The definitions are those of ``medseg evaluate``: a label that neither reference nor prediction holds has no
    score, and the mean is that of the labels' means over cases.
    """
    scores: Scores = {}
    for key, score in (("dice", dice), ("iou", iou)):
        columns = zip(*counts, strict=True)
        means = [mean_defined(score(one) for one in column if one is not None) for column in columns]
        scores[key] = mean_defined(means)
        scores |= {f"{key}:{name}": mean for name, mean in zip(names, means, strict=True)}
    return scores


def dice_of_classes(scores: Scores, labels: LabelSchema) -> dict[str, float]:
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
