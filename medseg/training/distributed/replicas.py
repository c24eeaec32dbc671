"""The network of a training, as each process has it: whole or in parts, alone or with others."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

from medseg.errors import ConfigError
from medseg.training.distributed.ranks import ProcessRanks, Ranks
from medseg.training.network_options import has_statistics

Compute = Callable[[nn.Module], torch.Tensor]
"""Computes a loss with a network."""


class Replica:
    """A network that this process trains alone.

    Args:
        network: the network.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def compute(self, function: Compute, *, final: bool) -> torch.Tensor:
        """Compute a loss, whose ``backward`` adds to the gradients.

        Args:
            function: computes the loss with the network that it is given.
            final: whether the update follows the ``backward`` of this loss; before, the gradients of the
                processes are averaged.
        """
        return function(self.network)

    def synchronize(self, network: nn.Module) -> None:
        """Let the processes agree on what is not trained: the running statistics of norms."""

    def evaluated(self, network: nn.Module) -> nn.Module:
        """Return a whole network with the weights of a network in training, for predictions."""
        return network

    def whole(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        """Return a checkpoint with whole tensors."""
        return checkpoint

    def own_part(self, checkpoint: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Return a checkpoint of whole tensors with this process's part of them."""
        return checkpoint


class SharedReplica(Replica):
    """A whole network in each process, with averaged gradients (``DistributedDataParallel``).

    Args:
        network: the network.
        ranks: the processes.
        compression: as in ``train.distributed.compression``.
        all_used: whether every loss of an update depends on all weights that are trained. If not, the unused
            ones are searched for in every update.

    Raises:
        ConfigError: the device does not support the compression.
    """

    def __init__(
        self, network: nn.Module, ranks: ProcessRanks, compression: str = "none", *, all_used: bool = False
    ) -> None:
        super().__init__(network)
        self.ranks = ranks
        if compression == "bf16" and ranks.device.type == "cpu":
            raise ConfigError(
                "train.distributed.compression=bf16 needs GPUs", hint="Set fp16 or none for training on CPUs."
            )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            # the module's result is the loss: weights on which it does not depend are found from there
            self._parallel = DistributedDataParallel(
                _Loss(network), process_group=ranks.data, broadcast_buffers=False, gradient_as_bucket_view=True,
                find_unused_parameters=not all_used,
            )  # fmt: skip
        if compression != "none":
            hooks = {"bf16": default_hooks.bf16_compress_hook, "fp16": default_hooks.fp16_compress_hook}
            self._parallel.register_comm_hook(ranks.data, hooks[compression])

    def compute(self, function: Compute, *, final: bool) -> torch.Tensor:
        with nullcontext() if final else self._parallel.no_sync():
            return self._parallel(function)

    def synchronize(self, network: nn.Module) -> None:
        average_statistics(network, self.ranks)


class _Loss(nn.Module):
    """A module around a network whose result is a loss."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, function: Compute) -> torch.Tensor:
        return function(self.network)


def average_statistics(network: nn.Module, ranks: Ranks) -> None:
    """Replace the running statistics of norms by their means over the processes."""
    norms = [module for module in network.modules() if has_statistics(module)]
    buffers = [buffer for norm in norms for buffer in norm.buffers(recurse=False)]
    ranks.average(buffer for buffer in buffers if buffer.is_floating_point())


def with_synchronized_norms(network: nn.Module, group: dist.ProcessGroup | None) -> nn.Module:
    """Return a network whose batch norms compute their statistics over all processes (``SyncBatchNorm``)."""
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network, group)
    return converted
