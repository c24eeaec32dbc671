import torch
from torch import nn

from medseg.training.distributed.sharding import called_stages


class Staged(nn.Module):
    """Calls one stage as a whole and the layers of another one."""

    def __init__(self):
        super().__init__()
        self.levels = nn.ModuleList(nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)) for _ in range(2))

    def forward(self, x):
        x = self.levels[0](x)
        for layer in self.levels[1]:
            x = layer(x)
        return x


def test_only_stages_that_are_called_as_a_whole_can_gather_their_weights():
    network = Staged().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert called_stages(network, torch.ones(1, 1, 4, 4)) == ["levels.0"]
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_pre_hooks for module in network.modules())
