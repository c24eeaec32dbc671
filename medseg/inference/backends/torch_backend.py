"""The torch backend, for CPUs and CUDA devices."""

from __future__ import annotations

from importlib.metadata import version
from typing import ClassVar

import torch
from torch import nn

from medseg.inference.backends.base import BackendInfo, BackendSetup, precision_of
from medseg.model_output import logits_of
from medseg.system.device import autocast


class TorchBackend:
    """A network run by torch, with autocast if ``setup.dtype`` is set.

    Args:
        network: the network, in evaluation mode, on ``setup.device``.
        setup: device, precision and compilation.
        why: reason why no other backend is used, for ``BackendInfo``.
    """

    name: ClassVar[str] = "torch"

    def __init__(self, network: nn.Module, setup: BackendSetup, *, why: str = "") -> None:
        self.network = network
        self.setup = setup
        self.why = why
        if setup.compiled:
            network.compile()  # pyright: ignore[reportUnknownMemberType]

    @staticmethod
    def unavailable_reason(setup: BackendSetup) -> str | None:
        """Return None: torch is always available."""
        return None

    @property
    def info(self) -> BackendInfo:
        name = "torch compiled" if self.setup.compiled else "torch"
        return BackendInfo(name, version("torch"), precision_of(self.setup.dtype), why=self.why)

    def predict(self, windows: torch.Tensor) -> torch.Tensor:
        windows = windows.to(self.setup.device)
        if self.setup.dtype is None:
            return logits_of(self.network(windows))
        with autocast(self.setup.dtype, self.setup.device):
            return logits_of(self.network(windows))
