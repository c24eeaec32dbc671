"""The machine that a plan is made for."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from medseg.system.device import resolve_device
from medseg.system.platform import available_memory, granted_cores

_GPU_SHARE = 0.9
"""Share of a GPU's memory that a plan may fill."""
_CPU_SHARE = 0.5
_UNKNOWN_MEMORY = 4 << 30


@dataclass(frozen=True)
class Machine:
    """Device, memory and cores.

    Attributes:
        device: the device that trains.
        memory: bytes that a training may use.
        cores: CPU cores that this process may use.
    """

    device: torch.device
    memory: float
    cores: int

    @property
    def on_gpu(self) -> bool:
        """Whether a CUDA device trains."""
        return self.device.type == "cuda"

    @property
    def memory_gb(self) -> float:
        """Memory in GB (10⁹ bytes)."""
        return self.memory / 1e9

    def describe(self) -> str:
        """Return the device, its memory and the cores in words."""
        if self.on_gpu:
            name = torch.cuda.get_device_name(self.device)
            return f"{name}, {self.memory_gb:.0f} GB to fill, {self.cores} CPU cores"
        return f"CPU, {self.cores} cores, {self.memory_gb:.1f} GB for the training"

    @classmethod
    def detect(cls, device: str = "auto", gpu_memory_gb: float | None = None) -> Machine:
        """Detect the machine.

        Args:
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
            gpu_memory_gb: memory to plan for on a CUDA device; if None, 90% of its memory.

        Raises:
            ConfigError: if the device does not exist.
        """
        resolved = resolve_device(device)
        if resolved.type != "cuda":
            return cls(resolved, _CPU_SHARE * (available_memory() or _UNKNOWN_MEMORY), granted_cores())
        total = torch.cuda.get_device_properties(resolved).total_memory
        memory = gpu_memory_gb * 1e9 if gpu_memory_gb is not None else _GPU_SHARE * total
        return cls(resolved, min(memory, total), granted_cores())
