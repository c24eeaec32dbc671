import copy

import pytest
import torch
from torch import nn

from medseg.errors import ConfigError
from medseg.system.processes.launch import Launch
from medseg.training.distributed.ranks import ONE_PROCESS, ProcessRanks, Ranks
from medseg.training.distributed.replicas import (
    Replica,
    SharedReplica,
    average_statistics,
    with_synchronized_norms,
)


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.InstanceNorm2d(2, affine=True))


class Doubling(Ranks):
    """Ranks whose other member has the values times three."""

    def average(self, tensors):
        for tensor in tensors:
            tensor.mul_(2)  # (x + 3 x) / 2


def test_one_process_computes_with_its_network():
    trained = network()
    replica = Replica(trained)
    assert replica.compute(lambda own: torch.tensor(float(own is trained)), final=True) == 1
    assert replica.evaluated(trained) is trained
    assert replica.whole({"step": 3}) == {"step": 3}


def test_only_running_statistics_are_averaged():
    trained = network()
    trained(torch.ones(2, 1, 4, 4))
    before = copy.deepcopy(trained.state_dict())
    average_statistics(trained, Doubling())
    changed = {name for name, value in trained.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"1.running_mean", "1.running_var"}
    torch.testing.assert_close(trained.state_dict()["1.running_mean"], 2 * before["1.running_mean"])
    average_statistics(trained, ONE_PROCESS)
    torch.testing.assert_close(trained.state_dict()["1.running_mean"], 2 * before["1.running_mean"])


def test_synchronized_norms_have_the_same_names_in_checkpoints():
    plain = network()
    names = list(plain.state_dict())
    converted = with_synchronized_norms(plain, None)
    assert list(converted.state_dict()) == names
    assert isinstance(converted[1], nn.SyncBatchNorm)
    assert isinstance(converted[2], nn.InstanceNorm2d)


def test_bf16_gradients_need_gpus(monkeypatch):
    monkeypatch.setattr(ProcessRanks, "__init__", lambda self: Ranks.__init__(self, Launch(0, 2, 0, 2)))
    ranks = ProcessRanks()
    ranks.device = torch.device("cpu")
    with pytest.raises(ConfigError, match="compression=bf16 needs GPUs"):
        SharedReplica(network(), ranks, "bf16")
