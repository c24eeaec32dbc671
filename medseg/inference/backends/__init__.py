"""Backends: the runtimes that compute a network's logits.

To add one, write a class in a file of this package and add it to ``BACKENDS``.
"""

from __future__ import annotations

from torch import nn

from medseg.errors import ConfigError
from medseg.inference.backends.base import Backend, BackendInfo, BackendSetup
from medseg.inference.backends.openvino import OpenVINOBackend
from medseg.inference.backends.selection import AutomaticBackend
from medseg.inference.backends.torch_backend import TorchBackend

__all__ = ["BACKENDS", "Backend", "BackendInfo", "BackendSetup", "TorchBackend", "make_backend"]

BACKENDS: dict[str, type[Backend]] = {
    kind.name: kind
    for kind in (
        AutomaticBackend,
        TorchBackend,
        OpenVINOBackend,
    )
}


def make_backend(name: str, network: nn.Module, setup: BackendSetup) -> Backend:
    """Create a backend by name.

    Args:
        name: a key of ``BACKENDS``.
        network: the network, in evaluation mode, on ``setup.device``.
        setup: device, precision and compilation.

    Raises:
        ConfigError: the name is unknown, or the backend does not support the setup.

    Example:
        >>> import torch
        >>> backend = make_backend("torch", nn.Conv2d(1, 2, 1).eval(), BackendSetup(torch.device("cpu")))
        >>> backend.predict(torch.zeros(4, 1, 8, 8)).shape
        torch.Size([4, 2, 8, 8])
    """
    if name not in BACKENDS:
        raise ConfigError(f"backend {name!r}: expected one of {', '.join(BACKENDS)}")
    kind = BACKENDS[name]
    if setup.compiled and setup.device.type != "cuda":
        raise ConfigError(
            f"torch.compile is supported on CUDA devices, got {setup.device.type}",
            hint="Omit --compile, or use a CUDA device.",
        )
    if (unavailable_reason := kind.unavailable_reason(setup)) is not None:
        raise ConfigError(f"backend {name}: {unavailable_reason}")
    return kind(network, setup)
