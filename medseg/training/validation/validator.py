"""Validation: whole cases by sliding window, scored on the preprocessed grid."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from medseg.data.labels.schema import LabelSchema
from medseg.data.loading.cache.cached_cases import CachedCase
from medseg.data.preprocessing.masks import ImageWithMasks, mirrored_inputs
from medseg.data.preprocessing.pipeline import SliceConfig
from medseg.geometry import Array
from medseg.inference.backends import BackendSetup, TorchBackend
from medseg.inference.detection import DetectionRun, to_instances
from medseg.inference.model.label_values import class_values
from medseg.inference.options import InferenceConfig
from medseg.inference.sliding_window.options import Execution, SlidingWindowOptions
from medseg.inference.sliding_window.output_chunk import OutputChunk, assemble
from medseg.inference.sliding_window.prediction import class_probabilities, decide, sliding_window_logits
from medseg.inference.sliding_window.streaming import Network
from medseg.instances.decoding import DenseOutput, decode_instances
from medseg.instances.heads.base import InstanceHead
from medseg.instances.matching import MatchedObjects, match_objects, pooled_score
from medseg.instances.result import Instances
from medseg.metrics.confusion import class_counts, confusion_matrix, region_counts
from medseg.metrics.overlap import Counts, dice, iou, mean_defined
from medseg.models.detection import Detector
from medseg.training.run_folder.validation_pictures import ValidationPictures

INSTANCES = "instances"
"""Key of the score of objects: TP / (TP + FP + FN) at an IoU of 0.5, over all validation cases together."""

Scores = dict[str, float]
"""``dice``, ``iou`` (means over classes) and ``dice:NAME``, ``iou:NAME``; nan if no case has the class."""


@dataclass(frozen=True)
class ValidatedCase:
    """The counts of one validated case.

    Attributes:
        counts: of the voxels of each label; None for labels not annotated in the case.
        objects: the matched objects; None if objects are not separated.
        clicks: for each object the Dice after each simulated click; None if the network answers no prompts.
    """

    counts: list[Counts | None]
    objects: MatchedObjects | None = None
    clicks: tuple[tuple[float, ...], ...] | None = None


@dataclass(frozen=True)
class Validator:
    """Validates a network on whole cases.

    Attributes:
        cases: the validation cases; may be empty.
        labels: of the dataset.
        inference: the sliding window, with its size.
        device: the device that computes.
        dtype: of mixed precision; None for float32.
        slices: how volumes are sliced for a 2D network.
        masks: number of masks that the network receives as further channels.
        head: of a network that tells objects apart; None if it predicts classes only.
    """

    cases: list[CachedCase]
    labels: LabelSchema
    inference: InferenceConfig
    device: torch.device
    dtype: torch.dtype | None
    slices: SliceConfig | None = None
    masks: int = 0
    head: InstanceHead | None = None

    def validate(
        self, network: nn.Module, pictures: ValidationPictures | None = None
    ) -> Iterator[ValidatedCase]:
        """Yield the counts of each case.

        Args:
            network: the network to validate.
            pictures: draws cases, if it is given and pictures are due.
        """
        watch = pictures if pictures is not None and pictures.is_due else None
        predict = TorchBackend(network.eval(), BackendSetup(self.device, self.dtype)).predict
        for case in self.cases:
            decided, objects = self._predict(network, predict, case)
            classes = np.asarray(case.label).astype(np.int64) - 1
            counts = overlap_counts(decided, classes, self.labels)
            if watch is not None:
                watch.add(case, decided, classes, counts)
            annotated = case.annotated[-len(counts) :] or (True,) * len(counts)
            known = [one if known else None for one, known in zip(counts, annotated, strict=True)]
            yield ValidatedCase(known, objects)

    def _predict(
        self, network: nn.Module, predict: Network, case: CachedCase
    ) -> tuple[Array, MatchedObjects | None]:
        """Return the decisions for a case, (1, *S) classes or (R, *S) regions, and its matched objects."""
        if isinstance(network, Detector):
            found = self.detected(network, case, self.inference.instances.score)
            return class_values(found, tuple(range(self.labels.num_classes)))[None], _match(case, found)
        if self.head is not None:
            output = self.dense_output(predict, case)
            found = decode_instances(self.head, output, self.inference.instances)
            return output.probabilities.argmax(axis=0)[None], _match(case, found)
        image = np.asarray(case.image)
        chunks = self._logits(predict, case, image)
        activation = self.labels.activation
        return assemble(chunks, image.shape[1:], lambda chunk: decide(chunk.tensor, activation)), None

    def detected(self, network: Detector, case: CachedCase, score: float) -> Instances:
        """Return the objects that a detector finds in a case, on its preprocessed grid."""
        run = DetectionRun(network.eval(), self.device, self.dtype, score)
        return to_instances(run.detect(np.asarray(case.image)), case.spacing)

    def dense_output(self, predict: Network, case: CachedCase) -> DenseOutput:
        """Return the output of a network with a dense head for a case, on its preprocessed grid."""
        image = np.asarray(case.image)
        count = self.labels.num_classes
        activation = self.labels.activation
        chunks = self._logits(predict, case, image)
        output = assemble(
            chunks, image.shape[1:], lambda chunk: class_probabilities(chunk, activation, count).tensor
        )
        return DenseOutput.split(output, count, case.spacing)

    def _logits(self, predict: Network, case: CachedCase, image: Array) -> Iterator[OutputChunk]:
        options = SlidingWindowOptions.from_config(
            self.inference,
            mirrored_channels=self.labels.mirrored_classes,
            mirrored_inputs=mirrored_inputs(len(image), self.labels) if self.masks else (),
            slices=self.slices,
            head=self.head,
        )
        options = replace(options, normalize=self.head is not None)
        execution = Execution(self.device, self.inference.batch_size)
        network_input = ImageWithMasks(image, case.masks, self.masks) if self.masks else image
        return sliding_window_logits(predict, network_input, options, execution)


def _match(case: CachedCase, found: Instances) -> MatchedObjects:
    """Match objects with those of a case; its ignored voxels do not count."""
    return match_objects(case.objects, found.label_map(), np.asarray(case.label) == 0)


def overlap_counts(decided: Array, classes: Array, labels: LabelSchema) -> list[Counts]:
    """Count the voxels of each evaluated label or region, in one pass over the voxels.

    Args:
        decided: (1, *S) predicted classes or (R, *S) predicted regions.
        classes: (*S) reference classes, with -1 for ignored voxels.
        labels: of the dataset.
    """
    if labels.regions:
        return region_counts(classes, decided.astype(bool, copy=False), labels.region_table, ignore_index=-1)
    matrix = confusion_matrix(classes, decided[0], len(labels.names), ignore_index=-1)
    return class_counts(matrix)[labels.first_evaluated :]


def mean_scores(counts: Sequence[Sequence[Counts | None]], names: tuple[str, ...]) -> Scores:
    """Return the mean scores from the counts of each case and label.

    As in ``medseg evaluate``, a label that is in neither reference nor prediction has no score in that case,
    and the mean is that of the means of the labels over cases.

    Args:
        counts: for each case the counts of each label; None for labels not annotated in the case.
        names: of the labels.
    """
    scores: Scores = {}
    for key, score in (("dice", dice), ("iou", iou)):
        columns = zip(*counts, strict=True)
        means = [mean_defined(score(one) for one in column if one is not None) for column in columns]
        scores[key] = mean_defined(means)
        scores |= {f"{key}:{name}": mean for name, mean in zip(names, means, strict=True)}
    return scores


def instance_score(cases: Sequence[ValidatedCase]) -> Scores:
    """Return the score of objects under :data:`INSTANCES`; nothing if objects are not separated."""
    matches = [case.objects for case in cases if case.objects is not None]
    return {INSTANCES: pooled_score(matches)} if matches else {}


def click_scores(cases: Sequence[ValidatedCase]) -> Scores:
    """Return the mean Dice over all objects after the first and the last click, and the mean of both.

    Nothing if the network answers no prompts.

    Example:
        >>> click_scores([ValidatedCase([], clicks=((0.5, 0.6, 0.7, 0.8, 0.9),))])
        {'clicks': 0.7, 'clicks:1': 0.5, 'clicks:5': 0.9}
    """
    if all(case.clicks is None for case in cases):
        return {}
    curves = [curve for case in cases for curve in case.clicks or ()]
    first, last = (mean_defined(curve[i] for curve in curves) for i in (0, -1))
    return {"clicks": (first + last) / 2, "clicks:1": first, "clicks:5": last}


def case_scores(
    cases: Sequence[str], counts: Sequence[Sequence[Counts | None]], names: tuple[str, ...]
) -> list[dict[str, str | float | None]]:
    """Return the Dice of each case and label as rows of ``case``, ``name`` and ``dice`` (None if not defined).

    Args:
        cases: ids of the cases.
        counts: for each case the counts of each label, as of :func:`mean_scores`.
        names: of the labels.
    """
    rows: list[dict[str, str | float | None]] = []
    for case, columns in zip(cases, counts, strict=True):
        for name, one in zip(names, columns, strict=True):
            score = math.nan if one is None else dice(one)
            rows.append({"case": case, "name": name, "dice": None if math.isnan(score) else score})
    return rows


def dice_of_classes(scores: Scores, labels: LabelSchema) -> dict[str, float]:
    """Return the Dice of each label; with regions, the mean of the regions that contain the label."""
    if not labels.regions:
        return {name: scores[f"dice:{name}"] for name in labels.evaluated}
    held = {n: [scores[f"dice:{r}"] for r, ms in labels.regions.items() if n in ms] for n in labels.names}
    return {name: sum(found) / len(found) for name, found in held.items() if found}


def is_better(score: float, best: float | None) -> bool:
    """Return whether a score is better than the best so far; nan is only better than no score."""
    if best is None:
        return True
    if math.isnan(score):
        return False
    return math.isnan(best) or score > best
