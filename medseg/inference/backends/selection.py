"""The backend that is chosen where the user leaves it open."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from medseg.errors import ConversionError
from medseg.inference.backends.base import Backend, BackendInfo, BackendSetup
from medseg.inference.backends.openvino import OpenVINOBackend
from medseg.inference.backends.torch_backend import TorchBackend


class AutomaticBackend:
    """OpenVINO on CPUs, where it is installed, converts the network, agrees with torch and all windows have one
    size; else torch.

    The choice follows from the machine, the network and its first window, never from a clock: a scan
    gives the same label map each time. Whole images of many sizes are torch's, as a conversion for each takes
    longer than it saves.
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
        """None: torch is always there."""
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
    """Why it is torch without a trial, empty where nothing else is expected; None if OpenVINO may try."""
    if setup.device.type != "cpu":
        return ""
    if not setup.one_size:
        return "whole images have many sizes"
    return OpenVINOBackend.unavailable_reason(setup)
