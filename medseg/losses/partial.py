"""Losses of cases in which only some labels were annotated."""

from __future__ import annotations

import torch

from medseg.output import Output

_NEVER = -1e4
"""A logit whose probability is 0 in float32, and which bfloat16 still holds."""


def merge_unknown(output: Output, known: torch.Tensor) -> Output:
    """Count the classes nobody annotated in a sample as its background.

    Where an annotator drew only the liver, "background" may be anything but liver: its probability is the
    sum of the background's and of the classes not drawn, which then have none of their own (the marginal
    loss of Shi et al. 2021, arXiv:2007.03868, equation 4).

    Shapes: every logits of ``output`` (B, K, *S); known (B, K) bool, channel 0 the background, which is
    always known.
    """
    if bool(known.all()):
        return output
    deep = tuple(_merge(one, known) for one in output.deep)
    aux = None if output.aux is None else _merge(output.aux, known)
    return Output(_merge(output.logits, known), deep, aux)


def _merge(logits: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    logits = logits.float()
    shape = (*known.shape, *[1] * (logits.ndim - 2))
    shown = known.view(shape)
    joined = shown.logical_not()
    joined[:, 0] = True
    background = logits.masked_fill(joined.logical_not(), float("-inf")).logsumexp(1, keepdim=True)
    return torch.cat([background, logits[:, 1:].masked_fill(shown[:, 1:].logical_not(), _NEVER)], dim=1)
