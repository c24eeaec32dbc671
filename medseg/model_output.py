"""``Output``: what a network returns in training, and the one adapter that makes it of other forms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeGuard

import torch


class Output(NamedTuple):
    """Logits of a network in training; in evaluation a network returns the ``logits`` tensor alone.

    Attributes:
        logits: (B, K, *S), at the input's full resolution.
        deep: logits of the coarser decoder levels, finest first, without the full-resolution ones.
            Each covers the input's whole field of view at a size of its own.
        aux: logits (B, K, *S') of an auxiliary head on the backbone, or None.
    """

    logits: torch.Tensor
    deep: tuple[torch.Tensor, ...] = ()
    aux: torch.Tensor | None = None


def as_output(value: object) -> Output:
    """Adapt what a network returned to an ``Output``.

    Takes a tensor (B, K, *S), an ``Output``, a mapping with ``out`` and perhaps ``aux`` (torchvision's
    form, other keys are left aside), or a list or tuple of tensors, finest first. A stacked tensor of deep
    outputs (B, N, K, *S), as MONAI's DynUNet returns it, is not guessed at.

    Raises: TypeError for anything else.
    """
    if isinstance(value, Output):
        return value
    if isinstance(value, torch.Tensor):
        return Output(_checked(value))
    if isinstance(value, Mapping):
        return _from_mapping(value)
    if isinstance(value, list | tuple) and value and _all_tensors(value):
        return Output(_checked(value[0]), tuple(value[1:]))
    raise TypeError(
        f"the network returned {_describe(value)}; expected a tensor of logits (B, K, *S), an Output, a "
        "mapping with 'out' (and 'aux'), or a list of tensors, finest first"
    )


def logits_of(value: object) -> torch.Tensor:
    """The full-resolution logits (B, K, *S) in whatever a network returned; see ``as_output``."""
    return as_output(value).logits


def _from_mapping(value: Mapping[object, object]) -> Output:
    logits, aux = value.get("out"), value.get("aux")
    if not isinstance(logits, torch.Tensor) or not (aux is None or isinstance(aux, torch.Tensor)):
        raise TypeError(
            f"the network returned {_describe(value)}; expected a tensor under 'out', and under 'aux' a "
            "tensor or nothing"
        )
    return Output(_checked(logits), aux=aux)


def _checked(logits: torch.Tensor) -> torch.Tensor:
    if logits.ndim not in (4, 5):
        raise TypeError(
            f"the network returned a tensor of shape {tuple(logits.shape)}; expected logits (B, K, *S) "
            "with 2 or 3 spatial axes. If it stacks deep outputs on axis 1, return "
            "list(torch.unbind(logits, dim=1))"
        )
    return logits


def _all_tensors(values: list[object] | tuple[object, ...]) -> TypeGuard[list[torch.Tensor]]:
    return all(isinstance(value, torch.Tensor) for value in values)


def _describe(value: object) -> str:
    if isinstance(value, Mapping):
        return "a mapping of " + (
            ", ".join(f"{k!r}: {type(v).__name__}" for k, v in value.items()) or "nothing"
        )
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of " + (", ".join(type(v).__name__ for v in value) or "nothing")
    return f"an object of type {type(value).__name__}"
