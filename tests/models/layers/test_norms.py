"""Norms of a single value."""

import pytest
import torch
from torch import nn

from medseg.models.layers.norms import BatchNorm, GroupNorm, InstanceNorm


def test_batch_norm_of_a_single_value_uses_the_running_statistics():
    norm = BatchNorm(2)
    norm.running_mean.copy_(torch.tensor([1.0, 2.0]))
    norm.running_var.copy_(torch.tensor([4.0, 1.0]))
    x = torch.tensor([3.0, 2.0]).view(1, 2, 1, 1)
    expected = [1.0, 0.0]  # (3 - 1) / 2 and (2 - 2) / 1
    assert norm.train()(x).flatten().tolist() == pytest.approx(expected, abs=1e-4)
    assert norm.running_mean.tolist() == [1, 2]
    assert norm.num_batches_tracked == 0


@pytest.mark.parametrize("size", [(4, 5), (3, 4, 5)])
def test_norms_of_more_values_are_torchs(size):
    x = torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(0))
    pairs = [
        (BatchNorm(4), (nn.BatchNorm2d if len(size) == 2 else nn.BatchNorm3d)(4)),
        (
            InstanceNorm(4, affine=True),
            (nn.InstanceNorm2d if len(size) == 2 else nn.InstanceNorm3d)(4, affine=True),
        ),
        (GroupNorm(2, 4), nn.GroupNorm(2, 4)),
    ]
    for ours, theirs in pairs:
        assert list(ours.state_dict()) == list(theirs.state_dict())
        for training in (True, False):
            assert torch.equal(ours.train(training)(x), theirs.train(training)(x))


@pytest.mark.parametrize("norm", [InstanceNorm(2, affine=True), GroupNorm(2, 2)])
def test_a_single_voxel_is_only_scaled_and_shifted(norm):
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([2.0, 3.0]))
        norm.bias.copy_(torch.tensor([0.5, 0.0]))
    x = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1, 1)
    assert norm(x).flatten().tolist() == [2.5, 6]


def test_groups_divide_the_channels():
    assert GroupNorm(32, 18).num_groups == 2
    assert GroupNorm(8, 7).num_groups == 1


@pytest.mark.parametrize("norm", [BatchNorm(2), InstanceNorm(2)])
def test_other_shapes_are_refused(norm):
    with pytest.raises(ValueError, match=r"norm takes \(B, C, \*S\)"):
        norm(torch.zeros(2, 2, 3))


def test_weights_of_before_batches_were_counted_load_strictly():
    norm = BatchNorm(2)
    state = {key: tensor + 1 for key, tensor in norm.state_dict().items() if key != "num_batches_tracked"}
    norm.load_state_dict(state, strict=True)
    assert norm.running_mean.tolist() == [1, 1]
