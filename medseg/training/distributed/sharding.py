"""FSDP2: the weights of a network, divided among the processes, and their ordinary form in checkpoints."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from medseg.training.distributed.ranks import ProcessRanks
from medseg.training.distributed.replicas import Compute, Replica, average_statistics
from medseg.training.network_options import stages


class ShardedReplica(Replica):
    """A part of the weights in each process (``fully_shard``), which gather a stage when they compute it.

    Args:
        network: the network, which is changed in place. Its parameters are new objects: build the optimizer
            afterwards.
        averaged: the average of the weights, divided in the same way; None without one.
        ranks: the processes.
        patch: (1, C, *P), an image that shows which stages the network calls.
    """

    def __init__(
        self, network: nn.Module, averaged: nn.Module | None, ranks: ProcessRanks, patch: torch.Tensor
    ) -> None:
        super().__init__(network)
        self.ranks, self.averaged = ranks, averaged
        self._whole = copy.deepcopy(network).requires_grad_(False).to("cpu")
        mesh = DeviceMesh.from_group(ranks.data, ranks.device.type)
        names = called_stages(network, patch.to(ranks.device))
        self._sharded = _shard(network, names, mesh)
        if averaged is not None:
            _shard(averaged, names, mesh)

    def compute(self, function: Compute, *, final: bool) -> torch.Tensor:
        self._sharded.set_requires_gradient_sync(final)
        return function(self.network)

    def synchronize(self, network: nn.Module) -> None:
        average_statistics(network, self.ranks)

    def evaluated(self, network: nn.Module) -> nn.Module:
        """Return a whole copy of a network: the processes then predict without each other."""
        self._whole.load_state_dict(_whole_tensors(network.state_dict()))
        return self._whole.to(self.ranks.device)

    def whole(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        return _whole_tensors(checkpoint)

    def own_part(self, checkpoint: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        parameters = [one for group in optimizer.param_groups for one in group["params"]]
        saved: dict[str, Any] = checkpoint["optimizer"]
        state = {i: {k: _like(v, parameters[i]) for k, v in one.items()} for i, one in saved["state"].items()}
        divided: dict[str, Any] = {"optimizer": {**saved, "state": state}}
        for key, network in (("network", self.network), ("averaged", self.averaged)):
            if network is not None and checkpoint[key] is not None:
                own = network.state_dict()
                divided[key] = {name: _like(value, own[name]) for name, value in checkpoint[key].items()}
        return {**checkpoint, **divided}


def called_stages(network: nn.Module, patch: torch.Tensor) -> list[str]:
    """Return the names of the stages that a network calls as a whole, not layer by layer.

    Only these can gather their weights when they are called.
    """
    called: set[nn.Module] = set()
    handles = [one.register_forward_pre_hook(lambda module, _: called.add(module)) for one in stages(network)]
    training = network.training
    with torch.no_grad():
        network.eval()(patch)
    network.train(training)
    for handle in handles:
        handle.remove()
    return [name for name, module in network.named_modules() if module in called]


def _shard(network: nn.Module, names: list[str], mesh: DeviceMesh) -> FSDPModule:
    """Divide some stages of a network, then what is left of it."""
    for parameter in network.parameters():  # of another memory format: not supported
        parameter.data = parameter.data.contiguous()
    for name in names:
        fully_shard(network.get_submodule(name), mesh=mesh)
    return fully_shard(network, mesh=mesh)


def _whole_tensors(value: Any) -> Any:
    """Return nested dicts and lists with whole tensors on the CPU in place of divided ones."""
    if isinstance(value, DTensor):
        return value.full_tensor().detach().cpu()
    if isinstance(value, dict):
        return {key: _whole_tensors(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_whole_tensors(one) for one in value]
    return value


def _like(value: Any, own: Any) -> Any:
    """Divide a whole tensor as a tensor of this process is divided, if it is and has the same shape."""
    if not isinstance(own, DTensor) or not isinstance(value, torch.Tensor) or value.shape != own.shape:
        return value
    return distribute_tensor(value.to(own.device, own.dtype), own.device_mesh, own.placements)
