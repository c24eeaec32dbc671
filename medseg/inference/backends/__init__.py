"""Backends: what computes a network's scores. Another one is a file with a class, and its line below."""

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
    """The backend of a name for a network in evaluation mode, on ``setup.device``.

    Raises: ConfigError if there is none of that name, or it cannot be used here.
    """
    if name not in BACKENDS:
        raise ConfigError(f"backend {name!r}: expected one of {', '.join(BACKENDS)}")
    kind = BACKENDS[name]
    if setup.compiled and setup.device.type != "cuda":
        raise ConfigError(f"torch.compile is for CUDA devices here, not for {setup.device.type}")
    if (unavailable_reason := kind.unavailable_reason(setup)) is not None:
        raise ConfigError(f"backend {name}: {unavailable_reason}")
    return kind(network, setup)
