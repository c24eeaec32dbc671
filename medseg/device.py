"""Which device computes, and in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal

import torch

from medseg.errors import ConfigError

Precision = Literal["auto", "bf16", "fp16", "off"]


def choose_device(name: str = "auto") -> torch.device:
    """The device of a name such as ``cpu``, ``cuda`` or ``cuda:1``; ``auto`` prefers CUDA.

    Raises: ConfigError if the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {name!r}: expected auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices; use cpu"
        )
    return device


def mixed_precision(setting: Precision, device: torch.device) -> torch.dtype | None:
    """The type autocast computes in, or None for full precision.

    ``auto`` is bfloat16 where the device has instructions for it (NVIDIA from Ampere on; CPUs with
    AVX512-BF16 or AMX), else full precision.
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
    """A context in which networks compute in ``dtype``."""
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def channels_last(spatial_dims: int) -> torch.memory_format:
    """The channels-last layout of 2D or 3D batches."""
    return torch.channels_last if spatial_dims == 2 else torch.channels_last_3d


def _avx512_bf16() -> bool:
    capabilities = torch.backends.cpu.get_cpu_capability()
    return capabilities == "AVX512" and bool(torch.cpu._is_avx512_bf16_supported())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that a device or the machine has no memory left."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and (
        "not enough memory" in str(error) or "out of memory" in str(error).lower()
    )
