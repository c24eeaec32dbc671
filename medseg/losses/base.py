"""Base classes of the losses: checks of the input, float32, class weights."""

from __future__ import annotations

from collections.abc import Sequence

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
from medseg.task import IGNORE_INDEX, Activation, Task

ClassWeights = tuple[float, ...] | BalanceScheme | None


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

    Raises:
        ValueError: when called with shapes or a type of target that do not fit.
    """

    class_weights: torch.Tensor | None

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


def mean_over(total: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """Return ``total / count``, or 0 with zero gradients if ``count`` is 0."""
    return torch.where(count > 0, total, total * 0) / torch.where(count > 0, count, 1)
