"""Base classes of the losses: checks of the input, float32, class weights, means over classes, sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from pydantic import field_validator
from torch import nn

from medseg.class_weights import BalanceScheme, class_weights_from_counts
from medseg.config.base import Spec
from medseg.errors import ConfigError
from medseg.losses.partial_labels import (
    ignore_unannotated_channels,
    merge_unannotated_logits,
    merge_unannotated_target,
)
from medseg.system.processes.batch_reduction import WHOLE_BATCH, BatchReduction
from medseg.task import IGNORE_INDEX, Activation, Task

ClassWeights = tuple[float, ...] | BalanceScheme | None
Per = Literal["batch", "sample"]
Absent = Literal["skip", "count"]


class SegmentationLoss(nn.Module):
    """Base class of the losses of logits against a target.

    The loss is computed in float32 (or float64), whatever the type of the logits and autocast. A subclass
    implements the formula in ``compute`` and documents the effect of ``class_weights`` (K,) in it.

    ``IGNORE_INDEX`` in the target marks a voxel (with ``sigmoid``, a voxel of a channel) that is excluded from
    every numerator, denominator and mean. If no voxel is left, the loss is 0 and so are its gradients.

    Shapes:
        - logits: (B, K, *S) float.
        - target: with ``softmax``, (B, 1, *S), an integer label map, or (B, K, *S) float probabilities (soft
          labels); with ``sigmoid``, (B, K, *S) of 0 and 1 (or probabilities) in any type, one channel per
          region.
        - annotated: (B, K) bool, the channels that were annotated in each sample; None: all channels. With
          ``softmax``, the other classes are part of the background (channel 0, always annotated) in the logits
          and in the target; with ``sigmoid``, the other channels are ignored.

    Args:
        activation: how logits become probabilities.
        class_weights: (K,) weights, or None.

    Attributes:
        reduction: combines sums over the samples of several processes that share a batch; see
            :func:`share_batch`.

    Raises:
        ValueError: when called with shapes or a type of target that do not fit.
    """

    class_weights: torch.Tensor | None
    reduction: BatchReduction = WHOLE_BATCH

    def __init__(self, activation: Activation, class_weights: torch.Tensor | None = None) -> None:
        super().__init__()
        self.activation: Activation = activation
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(
        self, logits: torch.Tensor, target: torch.Tensor, annotated: torch.Tensor | None = None
    ) -> torch.Tensor:
        check_target(logits, target, self.activation)
        with torch.autocast(logits.device.type, enabled=False):
            wide = logits if logits.dtype == torch.float64 else logits.float()
            if annotated is None:
                return self.compute(wide, target, None)
            if self.activation == "sigmoid":
                return self.compute(wide, ignore_unannotated_channels(target, annotated), annotated)
            merged = merge_unannotated_logits(wide, annotated)
            return self.compute(merged, merge_unannotated_target(target, annotated), annotated)

    def compute(
        self, logits: torch.Tensor, target: torch.Tensor, annotated: torch.Tensor | None
    ) -> torch.Tensor:
        """Compute the loss of checked float32 (or float64) logits.

        If ``annotated`` is given, logits and target are merged already: a class that is not annotated has a
        probability of 0 and no voxel, and must not be counted as a class.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement compute")

    def mean(self, total: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        """Return the mean over the whole batch, from a sum over this process's samples and what it counts.

        Args:
            total: scalar, with gradients.
            count: scalar; if that of the whole batch is 0, the mean is 0.
        """
        if self.reduction is not WHOLE_BATCH:
            total, count = self.reduction.sum(torch.stack([total, count.to(total.dtype)])).unbind()
        return mean_over(total, count)


class ClassWeightedConfig(Spec):
    """Base class of the settings of losses that can weigh the classes.

    A subclass has a literal ``name``, by which a configuration selects it, its settings with defaults, and
    ``build``. The union ``medseg.losses.PlainLossConfig`` lists the subclasses.

    Attributes:
        class_weights: one number per channel of the logits (background included); or the scheme that derives
            them from the training set's voxel counts (``medseg.class_weights``), where a class without voxels
            has weight 1; or None: equal weights.
    """

    class_weights: ClassWeights = None

    @field_validator("class_weights")
    @classmethod
    def _check_weights(cls, value: ClassWeights) -> ClassWeights:
        if isinstance(value, tuple) and (any(weight < 0 for weight in value) or not any(value)):
            raise ValueError(
                f"class_weights are {value}; expected no negative and at least one positive weight"
            )
        return value

    def build(self, task: Task, class_counts: Sequence[int] | None = None) -> SegmentationLoss:
        """Build the loss.

        Args:
            task: number of classes and activation.
            class_counts: number of voxels of each class in the training set, if they were counted.

        Raises:
            ConfigError: if the settings do not fit the task.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement build")

    def resolve_weights(self, task: Task, class_counts: Sequence[int] | None) -> torch.Tensor | None:
        """Return the class weights (K,) in float32, or None.

        Raises:
            ConfigError: if they are to be derived and ``class_counts`` is None or has no voxel, or if their
                number differs from the task's number of classes.
        """
        setting = self.class_weights
        if setting is None:
            return None
        if isinstance(setting, str):
            setting = _derive_weights(setting, class_counts)
        if len(setting) != task.num_classes:
            source = "class counts" if isinstance(self.class_weights, str) else "class_weights"
            raise ConfigError(
                f"loss: got {len(setting)} {source}, expected {task.num_classes}, one for each channel of "
                "the logits (with softmax the first is the background)"
            )
        return torch.tensor(setting, dtype=torch.float32)


@dataclass(frozen=True, eq=False)
class ClassMean:
    """How the losses of the classes are averaged.

    Attributes:
        per, absent, include_background: see ``RegionConfig``.
        class_weights: (K,) weights of the mean over classes, or None.
    """

    per: Per = "batch"
    absent: Absent = "skip"
    include_background: bool = False
    class_weights: torch.Tensor | None = None


class RegionConfig(ClassWeightedConfig):
    """Base class of the settings of losses that compare the region of each class with its target.

    Inherited attributes: see ``ClassWeightedConfig``.

    Attributes:
        per: compute the loss of a class over the whole ``batch``, or over each ``sample`` and average over
            samples.
        absent: ``skip`` excludes a class without voxels in these targets from the mean; with ``count``, it is
            included, with the highest loss for any false positive of losses of overlap.
        include_background: include class 0 in the mean. With sigmoid there is no background, and every region
            is included.
    """

    per: Per = "batch"
    absent: Absent = "skip"
    include_background: bool = False

    def class_mean(self, task: Task, class_counts: Sequence[int] | None) -> ClassMean:
        """Return how the classes are averaged. Raises: ConfigError as ``resolve_weights``."""
        return ClassMean(
            per=self.per,
            absent=self.absent,
            include_background=self.include_background or not task.background,
            class_weights=self.resolve_weights(task, class_counts),
        )


class RegionLoss(SegmentationLoss):
    """Base class of losses that compare the region of each class with its target, averaged over classes.

    A subclass implements ``compare``. Without the background (softmax only), at least two classes are needed.
    Shapes, ignored voxels and errors: ``SegmentationLoss``.

    Args:
        activation: how logits become probabilities.
        mean: how the losses of the classes are averaged.
    """

    def __init__(self, activation: Activation, mean: ClassMean) -> None:
        super().__init__(activation, mean.class_weights)
        self.per: Per = mean.per
        self.absent: Absent = mean.absent
        self.include_background = mean.include_background

    def compare(
        self, predicted: torch.Tensor, truth: torch.Tensor, counted: torch.Tensor, over: list[int]
    ) -> torch.Tensor:
        """Compute the loss of each class.

        Args:
            predicted: (B, K, *S) result of ``activate``, 0 in ignored voxels.
            truth: (B, K, *S) target of each class, 0 in ignored voxels.
            counted: (B, 1, *S) or (B, K, *S), 1 for the voxels that are not ignored, else 0.
            over: axes of the voxels: all but the class axis, with ``per="sample"`` all but the first two. Sums
                over them pass through :meth:`batch_total`.

        Returns:
            (K,), with ``per="sample"`` (B, K).
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement compare")

    def batch_total(self, sums: torch.Tensor) -> torch.Tensor:
        """Return sums over the voxels of the whole batch, from those of this process's samples.

        With ``per="sample"``, and in one process, they are the same.
        """
        return self.reduction.sum(sums) if self.per == "batch" else sums

    def activate(self, logits: torch.Tensor) -> torch.Tensor:
        """Return what is compared with the target: the probabilities."""
        return logits.sigmoid() if self.activation == "sigmoid" else logits.softmax(1)

    def compute(
        self, logits: torch.Tensor, target: torch.Tensor, annotated: torch.Tensor | None
    ) -> torch.Tensor:
        first = 1 if self.activation == "softmax" and not self.include_background else 0
        if logits.shape[1] <= first:
            raise ValueError("a loss of regions without the background needs at least 2 classes; got 1")
        counted = counted_voxels(target).to(logits.dtype)
        if self.activation == "softmax":
            counted = counted[:, :1]
        truth = class_truth(logits, target, counted, self.activation)[:, first:]
        predicted = self.activate(logits)[:, first:] * counted

        over = [axis for axis in range(logits.ndim) if axis != 1 and (axis or self.per == "batch")]
        loss = self.compare(predicted, truth, counted, over)
        weight = self._weights(truth, counted, over, annotated)
        total, count = (loss * weight).sum(), weight.sum()
        return mean_over(total, count) if self.per == "batch" else self.mean(total, count)

    def _weights(
        self, truth: torch.Tensor, counted: torch.Tensor, over: list[int], annotated: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the weights of the mean over classes, (K,), or (B, K); arguments: see ``compare``."""
        sizes = self.batch_total(truth.sum(over))
        present = sizes > 0
        if self.absent == "count":
            present = (self.batch_total(counted.sum(over)) > 0).expand_as(sizes)
        classes = sizes.shape[-1]
        if annotated is not None:  # a class that was not annotated has no region
            if self.per == "batch":
                annotated = self.reduction.sum(annotated.sum(0)) > 0
            present = present & annotated[..., -classes:]
        return present if self.class_weights is None else present * self.class_weights[-classes:]


class WeightedSum(nn.Module):
    """Σ weight × loss. Shapes and errors are those of ``SegmentationLoss``.

    Args:
        terms: weight and loss of each term.
    """

    def __init__(self, terms: Sequence[tuple[float, SegmentationLoss]]) -> None:
        super().__init__()
        self.weights = [weight for weight, _ in terms]
        self.losses = nn.ModuleList(loss for _, loss in terms)

    def forward(
        self, logits: torch.Tensor, target: torch.Tensor, annotated: torch.Tensor | None = None
    ) -> torch.Tensor:
        wide = logits if logits.dtype == torch.float64 else logits.float()  # converted once for all terms
        values = [
            weight * loss(wide, target, annotated)
            for weight, loss in zip(self.weights, self.losses, strict=True)
        ]
        return cast(torch.Tensor, sum(values[1:], start=values[0]))


def class_truth(
    logits: torch.Tensor, target: torch.Tensor, counted: torch.Tensor, activation: Activation
) -> torch.Tensor:
    """Return the target of each class, (B, K, *S) in the logits' type; 0 where the target is ignored."""
    if activation == "sigmoid" or is_soft(target):
        return target.to(logits.dtype) * counted
    return torch.zeros_like(logits).scatter_(1, target.long().clamp(min=0), counted)


def _derive_weights(scheme: BalanceScheme, class_counts: Sequence[int] | None) -> tuple[float, ...]:
    if class_counts is None:
        raise ConfigError(
            f"loss.class_weights is {scheme!r}, which needs the number of voxels of each class in the training "
            "set, but they were not counted",
            hint="Give one number per class instead.",
        )
    try:
        weights = class_weights_from_counts(class_counts, scheme)
    except ValueError as error:
        raise ConfigError(f"loss.class_weights is {scheme!r}: {error}") from error
    # the network must still learn that a class is absent, so an absent class keeps the mean weight
    return tuple(weight if count else 1.0 for weight, count in zip(weights, class_counts, strict=True))


def check_target(logits: torch.Tensor, target: torch.Tensor, activation: Activation) -> None:
    """Check that the shapes of logits and target and the target's type fit; see ``SegmentationLoss``.

    Raises:
        ValueError: if they do not.
    """
    got = f"got logits {tuple(logits.shape)} and target {tuple(target.shape)} of {target.dtype}"
    if activation == "softmax":
        if is_soft(target):
            if target.shape == logits.shape:
                return
            raise ValueError(f"with softmax, soft labels must have the logits' shape (B, K, *S); {got}")
        if target.shape != (logits.shape[0], 1, *logits.shape[2:]):
            raise ValueError(f"with softmax, the target of logits (B, K, *S) must be (B, 1, *S); {got}")
        if target.is_floating_point():
            raise ValueError(f"with softmax, the target must be a map of integer labels; {got}")
    elif target.shape != logits.shape:
        raise ValueError(f"with sigmoid, the target must have the same shape (B, K, *S) as the logits; {got}")


def is_soft(target: torch.Tensor) -> bool:
    """Return whether a target for softmax holds probabilities rather than labels."""
    return target.is_floating_point() and target.shape[1] > 1


def counted_voxels(target: torch.Tensor) -> torch.Tensor:
    """Return a mask of the voxels that are not ignored, in the target's shape."""
    if not target.is_signed():  # bool, uint8: torch would compare them with -1 modulo 256
        return torch.ones_like(target, dtype=torch.bool)
    return target != IGNORE_INDEX


def share_batch(loss: nn.Module, reduction: BatchReduction) -> None:
    """Let the losses in a module combine their sums with those of other processes, in place."""
    for module in loss.modules():
        if isinstance(module, SegmentationLoss):
            module.reduction = reduction


def mean_over(total: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """Return ``total / count``, or 0 with zero gradients if ``count`` is 0."""
    return torch.where(count > 0, total, total * 0) / torch.where(count > 0, count, 1)
