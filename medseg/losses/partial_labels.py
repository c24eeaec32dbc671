"""Logits and targets of samples in which only some of the classes were annotated."""

from __future__ import annotations

import torch

from medseg.task import IGNORE_INDEX

_IMPOSSIBLE = -1e4
"""A logit whose probability is 0 in float32, and which bfloat16 can represent."""


def merge_unannotated_logits(logits: torch.Tensor, annotated: torch.Tensor) -> torch.Tensor:
    """Move the probability of the classes that were not annotated in a sample to its background.

    If only the liver was annotated, "background" can be anything but liver: its probability is the sum of the
    background's and the unannotated classes', whose own probability becomes 0 (the marginal loss of Shi et al.
    2021, arXiv:2007.03868, equation 4).

    Args:
        logits: (B, K, *S), for a softmax.
        annotated: (B, K) bool; channel 0 is the background, which is always annotated.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    kept = _over_space(annotated, logits)
    joined = kept.logical_not()
    joined[:, 0] = True
    background = logits.masked_fill(joined.logical_not(), float("-inf")).logsumexp(1, keepdim=True)
    return torch.cat([background, logits[:, 1:].masked_fill(kept[:, 1:].logical_not(), _IMPOSSIBLE)], dim=1)


def merge_unannotated_target(target: torch.Tensor, annotated: torch.Tensor) -> torch.Tensor:
    """Replace the classes that were not annotated in a sample by its background.

    A label map can contain such a class (single voxels of another structure, a partial annotation); it is part
    of what ``merge_unannotated_logits`` calls background.

    Args:
        target: (B, 1, *S) classes or (B, K, *S) probabilities; ignored voxels are negative.
        annotated: (B, K) bool.
    """
    kept = _over_space(annotated, target)
    if target.is_floating_point():
        moved = target.masked_fill(kept, 0).sum(1, keepdim=True)
        merged = target.masked_fill(kept.logical_not(), 0)
        merged = torch.cat([merged[:, :1] + moved, merged[:, 1:]], dim=1)
    else:
        channels = torch.arange(annotated.shape[1], device=annotated.device)
        new_classes = torch.where(annotated, channels, 0)
        flat = new_classes.gather(1, target.flatten(1).long().clamp(min=0))
        merged = flat.view(target.shape).to(target.dtype)
    return torch.where(target < 0, target, merged)


def ignore_unannotated_channels(target: torch.Tensor, annotated: torch.Tensor) -> torch.Tensor:
    """Ignore the channels of a target for sigmoid that were not annotated.

    Args:
        target: (B, K, *S).
        annotated: (B, K) bool.
    """
    if not target.is_signed():
        target = target.to(torch.int16)
    return target.masked_fill(_over_space(annotated, target).logical_not(), IGNORE_INDEX)


def _over_space(annotated: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return ``annotated`` (B, K) with as many axes as ``like``."""
    return annotated.view(*annotated.shape, *[1] * (like.ndim - 2))
