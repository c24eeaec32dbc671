"""Checks that weights and logits are numbers: NaN and infinity decide for whatever class is compared first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from medseg.errors import ModelFileError, NumericalError
from medseg.inference.backends import Backend, BackendInfo
from medseg.inference.sliding_window.ring_accumulator import Planes

_STATISTICS = ("running_mean", "running_var")


def check_weights(network: nn.Module, where: str) -> None:
    """Raises: ModelFileError naming the parameters and norm statistics that are NaN or infinite.

    Other buffers may hold infinity, as attention masks do.
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
            f"{where}: {len(damaged)} of {len(tensors)} weights hold NaN or infinite values, the first is "
            f"{name} ({count} of {tensors[name].numel()}). The model is damaged and segments nothing: use "
            "an earlier checkpoint, or train it again."
        )


def finite_planes(planes: Iterator[Planes], case: Path | str, backend: Backend) -> Iterator[Planes]:
    """The same planes, checked one by one; errors as :func:`check_logits`."""
    for one in planes:
        check_logits(one.sums, case, backend.info)
        yield one


def check_logits(logits: torch.Tensor, case: Path | str, info: BackendInfo, advice: str = "") -> None:
    """Raises: NumericalError naming the case, what computed, and what to change, if logits are NaN or infinite.

    ``advice`` replaces what is suggested where torch computed them in float32.
    """
    if _is_finite(logits):
        return
    bad = int((~logits.isfinite()).sum())
    raise NumericalError(
        f"{case}: {bad} of {logits.numel()} logits are NaN or infinite, computed by {info.backend} in "
        f"{info.precision}. {_advice(info, advice)}"
    )


def _is_finite(tensor: torch.Tensor) -> bool:
    """Whether all elements are finite: a sum is, at the cost of one reading, unless an element is not."""
    total = tensor.detach().sum(dtype=torch.float64 if tensor.dtype == torch.float64 else torch.float32)
    return bool(total.isfinite()) or bool(tensor.isfinite().all())  # a sum of large numbers may overflow


def _advice(info: BackendInfo, otherwise: str) -> str:
    if info.precision != "float32":
        return "Compute in float32: --amp off."
    if info.backend == "openvino":
        return "Compute by torch: --backend torch."
    return otherwise or (
        "float32 by torch has the widest range: the model is damaged, or the scan's intensities are far from "
        "those of the training. Compare the scan with the training's, or use another model file."
    )
