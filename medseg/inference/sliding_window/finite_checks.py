"""Checks that weights and logits are finite, as NaN and infinity make the first class win."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from medseg.errors import ModelFileError, NumericalError
from medseg.inference.backends import Backend, BackendInfo
from medseg.inference.sliding_window.output_chunk import OutputChunk

_STATISTICS = ("running_mean", "running_var")


def check_weights(network: nn.Module, source: str) -> None:
    """Check that parameters and norm statistics are finite; other buffers may be infinite (attention masks).

    Raises:
        ModelFileError: some are not; the error names ``source`` and the first of them.
    """
    tensors = dict(network.named_parameters())
    tensors |= {name: t for name, t in network.named_buffers() if name.rpartition(".")[2] in _STATISTICS}
    damaged = {
        name: int((~tensor.isfinite()).sum())
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not _is_finite(tensor)
    }
    if damaged:
        name, count = next(iter(damaged.items()))
        raise ModelFileError(
            f"{source}: {len(damaged)} of {len(tensors)} weights hold NaN or infinite values, the first is "
            f"{name} ({count} of {tensors[name].numel()})",
            hint="The model is damaged: use an earlier checkpoint, or train it again.",
        )


def check_chunks(chunks: Iterator[OutputChunk], case: Path | str, backend: Backend) -> Iterator[OutputChunk]:
    """Yield the same chunks, each checked by :func:`check_logits`."""
    for chunk in chunks:
        check_logits(chunk.tensor, case, backend.info)
        yield chunk


def check_logits(logits: torch.Tensor, case: Path | str, info: BackendInfo, hint: str = "") -> None:
    """Check that logits are finite.

    Args:
        logits: of any shape.
        case: named in the error.
        info: what computed them.
        hint: what to do if torch computed them in float32.

    Raises:
        NumericalError: logits are NaN or infinite.
    """
    if _is_finite(logits):
        return
    bad = int((~logits.isfinite()).sum())
    raise NumericalError(
        f"{case}: {bad} of {logits.numel()} logits are NaN or infinite, computed by {info.backend} in "
        f"{info.precision}",
        hint=_hint(info, hint),
    )


def _is_finite(tensor: torch.Tensor) -> bool:
    """Whether all elements are finite. If their sum is, they are, which takes one pass over the tensor."""
    total = tensor.detach().sum(dtype=torch.float64 if tensor.dtype == torch.float64 else torch.float32)
    return bool(total.isfinite()) or bool(tensor.isfinite().all())  # a sum of large numbers may overflow


def _hint(info: BackendInfo, otherwise: str) -> str:
    if info.precision != "float32":
        return "Compute in float32: --amp off."
    if info.backend == "openvino":
        return "Compute by torch: --backend torch."
    return otherwise or (
        "float32 by torch has the widest range: the model is damaged, or the scan's intensities are far from "
        "those of the training. Compare the scan with the training's, or use another model file."
    )
