"""Measure real updates of a candidate on the machine at hand."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from medseg.losses import DeepSupervisionLoss, default_loss
from medseg.models import UNetConfig
from medseg.optim import AdamWConfig
from medseg.planning.network_candidates import Candidate
from medseg.planning.topology import CONVS, Topology
from medseg.system.allocator import is_out_of_memory
from medseg.system.device import Precision, autocast, channels_last, resolve_autocast_dtype
from medseg.task import Task

_UPDATES = 5
_EMA = 0.99


@dataclass(frozen=True)
class StepCost:
    """Cost of an update.

    Attributes:
        seconds: the fastest of a few updates, because other processes can only slow them down.
        memory: peak bytes on a CUDA device; None on the CPU.
    """

    seconds: float
    memory: int | None = None


class Timer(Protocol):
    """Measures candidates."""

    def measure(self, candidate: Candidate) -> StepCost | None:
        """Return the cost of an update of a candidate; None if it does not fit the memory."""
        ...


@dataclass(frozen=True)
class StepTimer:
    """Runs forward and backward passes, the optimizer and the average of the weights on random patches.

    Attributes:
        task: of the network.
        device: the device that computes.
        deep_supervision: as in ``network_config``.
        precision: as ``train.amp``.
        longest: seconds after which a measurement ends, after the update that is running.
    """

    task: Task
    device: torch.device
    deep_supervision: bool = False
    precision: Precision = "auto"
    longest: float = 4.0

    def measure(self, candidate: Candidate) -> StepCost | None:
        """Return the cost of an update; None if the memory of the device is not enough."""
        try:
            return self._measure(candidate)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None
        finally:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _measure(self, candidate: Candidate) -> StepCost:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        update = _Update(self, candidate)
        update.run()  # warms up: memory, choice of algorithms
        seconds: list[float] = []
        while len(seconds) < _UPDATES and sum(seconds) < self.longest:
            began = time.monotonic()
            update.run()
            seconds.append(time.monotonic() - began)
        memory = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None
        return StepCost(min(seconds), memory)


class _Update:
    """An update of the weights of one candidate, with random data."""

    def __init__(self, timer: StepTimer, candidate: Candidate) -> None:
        self.device = timer.device
        self.dtype = resolve_autocast_dtype(timer.precision, timer.device)
        layout = channels_last(timer.task.spatial_dims)
        network: nn.Module = network_config(candidate.topology, timer.deep_supervision).build(timer.task)
        network = network.to(timer.device).to(memory_format=layout)  # pyright: ignore[reportCallIssue]
        self.network = network.train()
        self.average = copy.deepcopy(network).requires_grad_(False)
        self.optimizer = AdamWConfig().build(network.parameters())
        self.loss = DeepSupervisionLoss(default_loss().build(timer.task)).to(timer.device)
        shape = (candidate.batch_size, timer.task.in_channels, *candidate.topology.patch_size)
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(shape, generator=generator)
        self.image = image.to(timer.device).to(memory_format=layout)
        target = torch.randint(timer.task.num_classes, (shape[0], 1, *shape[2:]), generator=generator)
        self.target = target.to(timer.device)

    def run(self) -> None:
        with autocast(self.dtype, self.device):
            output = self.network(self.image)
        self.loss(output, self.target).backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 12.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for own, averaged in zip(self.network.parameters(), self.average.parameters(), strict=True):
                averaged.lerp_(own, 1 - _EMA)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def network_config(topology: Topology, deep_supervision: bool) -> UNetConfig:
    """Return the settings of the U-Net with a topology.

    Args:
        topology: of the network. A U-Net has two levels at least; a single one is repeated without halving.
        deep_supervision: whether all decoder levels but the lowest have heads (in nnU-Net, its weight is 0).
    """
    if topology.levels == 1:
        return UNetConfig(channels=topology.features * 2, stride=1)
    heads = max(topology.levels - 3, 0) if deep_supervision else 0
    others = topology.levels - 1
    return UNetConfig(
        convs_per_level=(1, *(CONVS,) * others) if topology.thin else CONVS,
        decoder_convs=(1, *(CONVS,) * (others - 1)) if topology.thin else None,
        channels=topology.features,
        kernel=_shortened(topology.kernels, 3),
        stride=_shortened_strides(topology),
        deep_supervision=heads,
    )


def _shortened(values: tuple[tuple[int, ...], ...], usual: int) -> int | tuple[tuple[int, ...], ...]:
    return usual if all(n == usual for one in values for n in one) else values


def _shortened_strides(topology: Topology) -> int | tuple[tuple[int, ...], ...]:
    """Return 2 if only every level below the first halves all axes, else the strides."""
    uniform = max(topology.strides[0]) == 1 and all(n == 2 for one in topology.strides[1:] for n in one)
    return 2 if uniform else topology.strides
