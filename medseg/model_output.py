"""``Output``, which networks return in training, and its adapter for other forms of output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import torch


class Output(NamedTuple):
    """Logits of a network in training; in evaluation, a network returns the ``logits`` tensor alone.

    Attributes:
        logits: (B, K, *S), at the input's full resolution.
        deep: logits of the coarser decoder levels, finest first, without the full-resolution ones. Each covers
            the input's whole field of view at its own size.
        aux: logits (B, K, *S') of an auxiliary head on the backbone, or None.
    """

    logits: torch.Tensor
    deep: tuple[torch.Tensor, ...] = ()
    aux: torch.Tensor | None = None


def as_output(value: object) -> Output:
    """Convert what a network returned to an ``Output``.

    Stacked deep outputs (B, N, K, *S), as MONAI's DynUNet returns them, are not accepted, because they cannot
    be distinguished from logits of a volume.

    Args:
        value: a tensor (B, K, *S), an ``Output``, a mapping with ``out`` and optionally ``aux`` (torchvision's
            form; other keys are ignored), or a list or tuple of tensors, finest first.

    Raises:
        TypeError: for any other value.

    Example:
        >>> output = as_output({"out": torch.zeros(1, 2, 8, 8), "aux": torch.zeros(1, 2, 1, 1)})
        >>> output.logits.shape, output.aux.shape
        (torch.Size([1, 2, 8, 8]), torch.Size([1, 2, 1, 1]))
    """
    if isinstance(value, Output):
        return value
    if isinstance(value, torch.Tensor):
        return Output(_check_logits(value))
    if isinstance(value, Mapping):
        return _from_mapping(cast(Mapping[object, object], value))
    if isinstance(value, list | tuple):
        items = cast(Sequence[object], value)
        tensors = [item for item in items if isinstance(item, torch.Tensor)]
        if tensors and len(tensors) == len(items):
            return Output(_check_logits(tensors[0]), tuple(tensors[1:]))
    raise TypeError(
        f"the network returned {_describe(cast(object, value))}; expected a tensor of logits (B, K, *S), an "
        "Output, a mapping with 'out' (and 'aux'), or a list of tensors, finest first"
    )


def logits_of(value: object) -> torch.Tensor:
    """Return the full-resolution logits (B, K, *S) of what a network returned; see ``as_output``."""
    return as_output(value).logits


def _from_mapping(value: Mapping[object, object]) -> Output:
    logits, aux = value.get("out"), value.get("aux")
    if not isinstance(logits, torch.Tensor) or not (aux is None or isinstance(aux, torch.Tensor)):
        raise TypeError(
            f"the network returned {_describe(value)}; expected a tensor under 'out', and a tensor or None "
            "under 'aux'"
        )
    return Output(_check_logits(logits), aux=aux)


def _check_logits(logits: torch.Tensor) -> torch.Tensor:
    if logits.ndim not in (4, 5):
        raise TypeError(
            f"the network returned a tensor of shape {tuple(logits.shape)}; expected logits (B, K, *S) "
            "with 2 or 3 spatial axes. If it stacks deep outputs on axis 1, return "
            "list(torch.unbind(logits, dim=1))"
        )
    return logits


def _describe(value: object) -> str:
    if isinstance(value, Mapping):
        items = cast(Mapping[object, object], value).items()
        return "a mapping of " + (", ".join(f"{k!r}: {type(v).__name__}" for k, v in items) or "nothing")
    if isinstance(value, list | tuple):
        names = ", ".join(type(item).__name__ for item in cast(Sequence[object], value))
        return f"a {type(value).__name__} of " + (names or "nothing")  # pyright: ignore[reportUnknownArgumentType]
    return f"an object of type {type(value).__name__}"
