"""Compute devices and numerical precision."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

import torch
from torch import nn

from medseg.errors import ConfigError

Precision = Literal["auto", "bf16", "fp16", "off"]


def resolve_device(name: str = "auto") -> torch.device:
    """Return the device with a name such as ``cpu``, ``cuda`` or ``cuda:1``; ``auto`` prefers CUDA.

    Raises:
        ConfigError: if the device does not exist.

    Example:
        >>> resolve_device("cpu")
        device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {name!r}: unknown device, expected auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices",
            hint="Use device cpu or auto.",
        )
    return device


def visible_gpus(device: str = "auto") -> list[str]:
    """Return the GPUs that processes may divide, as named in ``CUDA_VISIBLE_DEVICES``.

    Args:
        device: device setting of the processes; the list is empty if it names one device.
    """
    if device not in ("auto", "cuda"):
        return []
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return visible or [str(i) for i in range(torch.cuda.device_count())]


def resolve_autocast_dtype(setting: Precision, device: torch.device) -> torch.dtype | None:
    """Return the data type for autocast, or None for full precision.

    Args:
        setting: ``auto`` selects bfloat16 if the device has instructions for it (NVIDIA GPUs from Ampere on,
            CPUs with AVX512-BF16 or AMX), otherwise full precision.
        device: the device that computes.
    """
    if setting == "bf16":
        return torch.bfloat16
    if setting == "fp16":
        return torch.float16
    if setting == "off":
        return None
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported() and _avx512_bf16()
    return torch.bfloat16 if native else None


def autocast(dtype: torch.dtype | None, device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which networks compute in ``dtype``; full precision if None."""
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def channels_last(spatial_dims: int) -> torch.memory_format:
    """Return the channels-last memory format of 2D or 3D batches."""
    return torch.channels_last if spatial_dims == 2 else torch.channels_last_3d


def to_channels_last(network: nn.Module, spatial_dims: int) -> nn.Module:
    """Store the weights of a network in the channels-last memory format, in place."""
    untyped: Any = network  # torch does not annotate ``memory_format``
    return untyped.to(memory_format=channels_last(spatial_dims))


def to_device(batch: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a batch to a device; to CUDA through pinned memory, so that the copy is asynchronous."""
    if device.type == "cuda" and batch.device.type == "cpu":
        return batch.pin_memory().to(device, non_blocking=True)
    return batch.to(device)


@contextmanager
def cudnn_benchmark(device: torch.device) -> Iterator[None]:
    """Let cuDNN benchmark its algorithms for each new batch size on CUDA.

    Use it for loops whose batches all have the same size.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _avx512_bf16() -> bool:
    capabilities = torch.backends.cpu.get_cpu_capability()
    return capabilities == "AVX512" and bool(torch.cpu._is_avx512_bf16_supported())
