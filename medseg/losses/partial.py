"""Logits and targets of samples in which only some classes were annotated."""

from __future__ import annotations

import torch

from medseg.task import IGNORE_INDEX

_NEVER = -1e4
"""A logit whose probability is 0 in float32, and which bfloat16 still holds."""


def merge_unknown_logits(logits: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Move the probability of the classes that were not annotated in a sample to its background.

    Where an annotator drew only the liver, "background" may be anything but liver: its probability is the
    sum of the background's and of the classes not drawn, which then have none of their own (the marginal
    loss of Shi et al. 2021, arXiv:2007.03868, equation 4).

    Shapes: logits (B, K, *S) of a softmax; known (B, K) bool, channel 0 the background, which is always known.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    shown = _over_space(known, logits)
    joined = shown.logical_not()
    joined[:, 0] = True
    background = logits.masked_fill(joined.logical_not(), float("-inf")).logsumexp(1, keepdim=True)
    return torch.cat([background, logits[:, 1:].masked_fill(shown[:, 1:].logical_not(), _NEVER)], dim=1)


def merge_unknown_target(target: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Count what a target says of classes that were not annotated in a sample as its background.

    A label map can hold such a class (a voxel or two of another structure, a partial drawing): it lies in
    what ``merge_unknown_logits`` calls background.

    Shapes: target (B, 1, *S) classes or (B, K, *S) probabilities, ignored voxels negative; known (B, K) bool.
    """
    shown = _over_space(known, target)
    if target.is_floating_point():
        moved = target.masked_fill(shown, 0).sum(1, keepdim=True)
        merged = target.masked_fill(shown.logical_not(), 0)
        merged = torch.cat([merged[:, :1] + moved, merged[:, 1:]], dim=1)
    else:
        channels = torch.arange(known.shape[1], device=known.device)
        becomes = torch.where(known, channels, 0)
        flat = becomes.gather(1, target.flatten(1).long().clamp(min=0))
        merged = flat.view(target.shape).to(target.dtype)
    return torch.where(target < 0, target, merged)


def ignore_unknown_channels(target: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Ignore the channels (B, K, *S) of a sigmoid's target that were not annotated; known (B, K) bool."""
    if not target.is_signed():
        target = target.to(torch.int16)
    return target.masked_fill(_over_space(known, target).logical_not(), IGNORE_INDEX)


def _over_space(known: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return known.view(*known.shape, *[1] * (like.ndim - 2))
