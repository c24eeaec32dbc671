import pytest
import torch

from medseg.instances.heads.base import build_head
from medseg.instances.heads.loss import InstanceLoss
from medseg.instances.options import InstanceTask
from medseg.losses import CrossEntropyLoss
from medseg.losses.base import share_batch
from medseg.system.processes.batch_reduction import BatchReduction


class Sums(BatchReduction):
    """Adds what another process summed; remembers the sums of this one."""

    def __init__(self, others=()):
        self.others, self.own = list(others), []

    def sum(self, values):
        self.own.append(values.detach())
        return values + self.others.pop(0) if self.others else values


def share(loss, reduction):
    loss.reduction = reduction
    share_batch(loss, reduction)


@pytest.mark.parametrize("decoder", ["flows", "distance", "rays"])
def test_maps_of_processes_count_by_their_voxels(decoder):
    torch.manual_seed(0)
    head = build_head(InstanceTask(decoder=decoder, rays=4), 2)
    loss = InstanceLoss(CrossEntropyLoss("softmax"), head)
    logits = torch.randn(2, 2 + head.channels, 4, 4)
    classes = torch.ones(2, 1, 4, 4)
    classes[0, :, :3] = -1  # 4 voxels count in the first sample, 16 in the second
    target = torch.cat([classes, torch.rand(2, head.channels, 4, 4)], dim=1)
    whole = loss(logits, target)
    second = Sums()
    share(loss, second)
    loss(logits[1:], target[1:])
    share(loss, Sums(second.own))
    assert loss(logits[:1], target[:1]).item() == pytest.approx(whole.item(), rel=1e-5)
