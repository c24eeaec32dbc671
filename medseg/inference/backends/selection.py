"""The automatic choice of a backend."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from medseg.errors import ConversionError
from medseg.inference.backends.base import Backend, BackendInfo, BackendSetup
from medseg.inference.backends.openvino import OpenVINOBackend
from medseg.inference.backends.torch_backend import TorchBackend


class AutomaticBackend:
    """Backend ``auto``: OpenVINO where it is suitable, otherwise torch.

    OpenVINO is used on CPUs if it is installed, converts the network, agrees with torch on the first window,
    and all windows have the same size. For whole images of many sizes, converting for each size takes longer
    than it saves. The choice depends on the machine, the network and its first window, not on timing, so that
    a scan always gives the same label map.
    """

    name: ClassVar[str] = "auto"

    def __init__(self, network: nn.Module, setup: BackendSetup) -> None:
        self.network = network
        self.setup = setup
        why = _why_torch(setup)
        self._backend: Backend = (
            OpenVINOBackend(network, setup) if why is None else TorchBackend(network, setup, why=why)
        )

    @staticmethod
    def unavailable_reason(setup: BackendSetup) -> str | None:
        """Return None: torch is always available."""
        return None

    @property
    def info(self) -> BackendInfo:
        return self._backend.info

    def predict(self, windows: torch.Tensor) -> torch.Tensor:
        try:
            return self._backend.predict(windows)
        except ConversionError as error:
            self._backend = TorchBackend(self.network, self.setup, why=str(error))
            return self._backend.predict(windows)


def _why_torch(setup: BackendSetup) -> str | None:
    """Return why torch is used without trying OpenVINO, empty on GPUs; None if OpenVINO can be tried."""
    if setup.device.type != "cpu":
        return ""
    if not setup.one_size:
        return "whole images differ in size"
    return OpenVINOBackend.unavailable_reason(setup)
