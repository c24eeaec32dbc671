"""What the losses share: the checks of their input, float32, and class weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import field_validator
from torch import nn

from medseg.class_weights import BalanceScheme, class_weights_from_counts
from medseg.config.base import Spec
from medseg.errors import ConfigError
from medseg.losses.partial import ignore_unknown_channels, merge_unknown_logits, merge_unknown_target
from medseg.task import IGNORE_INDEX, Activation, Task

ClassWeights = tuple[float, ...] | BalanceScheme | None


class SegmentationLoss(nn.Module):
    """A loss of logits against a target, computed in float32 whatever the logits' type and autocast.

    Shapes: logits (B, K, *S) float. With ``softmax``, target (B, 1, *S), an integer label map, or (B, K, *S)
    float probabilities (soft labels); with ``sigmoid``, target (B, K, *S) of 0 and 1 (or probabilities), one
    channel a region, in any type. ``IGNORE_INDEX`` in the
    target marks a voxel (with ``sigmoid``, a voxel of a channel) that counts nowhere: not in a
    numerator, a denominator or a mean. With nothing left to count the loss is 0 and so are its gradients.

    ``known`` (B, K) bool names the channels that were annotated in each sample; none: all. With ``softmax`` the
    others are part of the background (channel 0, always known), in the logits and in the target; with
    ``sigmoid`` they count nowhere.

    A subclass gives the formula in ``compute``, and says what ``class_weights`` (K,) do in it.
    Raises: ValueError if shapes or the target's type disagree.
    """

    class_weights: torch.Tensor | None

    def __init__(self, activation: Activation, class_weights: torch.Tensor | None = None) -> None:
        super().__init__()
        self.activation: Activation = activation
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(
        self, logits: torch.Tensor, target: torch.Tensor, known: torch.Tensor | None = None
    ) -> torch.Tensor:
        check_target(logits, target, self.activation)
        with torch.autocast(logits.device.type, enabled=False):
            wide = logits if logits.dtype == torch.float64 else logits.float()
            if known is None:
                return self.compute(wide, target, None)
            if self.activation == "sigmoid":
                return self.compute(wide, ignore_unknown_channels(target, known), known)
            return self.compute(merge_unknown_logits(wide, known), merge_unknown_target(target, known), known)

    def compute(self, logits: torch.Tensor, target: torch.Tensor, known: torch.Tensor | None) -> torch.Tensor:
        """The formula, of checked float32 (or float64) logits.

        Where ``known`` is given, logits and target are merged already: a class that is not known has a
        probability of 0 and no voxel, and the formula must not count it as a class.
        """
        raise NotImplementedError


class BalancedSpec(Spec):
    """A loss that can weigh the classes.

    Attributes:
        class_weights: one number a channel of the logits (background included); or the scheme that derives
            them from the training set's voxel counts (``medseg.class_weights``), where a class without voxels
            weighs 1; or None: all weigh the same.
    """

    class_weights: ClassWeights = None

    @field_validator("class_weights")
    @classmethod
    def _check_weights(cls, value: ClassWeights) -> ClassWeights:
        if isinstance(value, tuple) and (any(weight < 0 for weight in value) or not any(value)):
            raise ValueError(f"class_weights are {value}; none may be negative, and one must be above 0")
        return value

    def weights(self, task: Task, class_counts: Sequence[int] | None) -> torch.Tensor | None:
        """The class weights (K,), float32, or None.

        Raises: ConfigError if they are to be derived and ``class_counts`` is None or holds no voxel, or if
        there is not one for each of the task's classes.
        """
        setting = self.class_weights
        if setting is None:
            return None
        if isinstance(setting, str):
            setting = _derived(setting, class_counts)
        if len(setting) != task.num_classes:
            source = "class counts" if isinstance(self.class_weights, str) else "class_weights"
            raise ConfigError(
                f"loss: got {len(setting)} {source}, expected {task.num_classes}, one for each channel of "
                "the logits (with softmax the first is the background)"
            )
        return torch.tensor(setting, dtype=torch.float32)


def _derived(scheme: BalanceScheme, class_counts: Sequence[int] | None) -> tuple[float, ...]:
    if class_counts is None:
        raise ConfigError(
            f"loss.class_weights is {scheme!r}, which needs the voxels of each class in the training set, "
            "and none were counted; give one number a class instead"
        )
    try:
        weights = class_weights_from_counts(class_counts, scheme)
    except ValueError as error:
        raise ConfigError(f"loss.class_weights is {scheme!r}: {error}") from error
    # a class that this training set lacks must still be learnt as absent, so it keeps the mean weight
    return tuple(weight if count else 1.0 for weight, count in zip(weights, class_counts, strict=True))


def check_target(logits: torch.Tensor, target: torch.Tensor, activation: Activation) -> None:
    """Raises: ValueError if logits and target do not fit; see ``SegmentationLoss``."""
    got = f"got logits {tuple(logits.shape)} and target {tuple(target.shape)} of {target.dtype}"
    if activation == "softmax":
        if is_soft(target):
            if target.shape == logits.shape:
                return
            raise ValueError(f"with softmax, soft labels have the logits' shape (B, K, *S); {got}")
        if target.shape != (logits.shape[0], 1, *logits.shape[2:]):
            raise ValueError(f"with softmax, logits (B, K, *S) take a target (B, 1, *S); {got}")
        if target.is_floating_point():
            raise ValueError(f"with softmax, the target is a map of integer labels; {got}")
    elif target.shape != logits.shape:
        raise ValueError(f"with sigmoid, logits (B, K, *S) take a target of the same shape; {got}")


def is_soft(target: torch.Tensor) -> bool:
    """Whether a target of a softmax holds probabilities rather than labels."""
    return target.is_floating_point() and target.shape[1] > 1


def counted_voxels(target: torch.Tensor) -> torch.Tensor:
    """True where the target counts, in the target's shape."""
    if not target.is_signed():  # bool, uint8: torch would compare them with -1 modulo 256
        return torch.ones_like(target, dtype=torch.bool)
    return target != IGNORE_INDEX


def mean_over(total: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """``total / count``, or a 0 with (zero) gradients where nothing was counted."""
    return torch.where(count > 0, total, total * 0) / torch.where(count > 0, count, 1)
