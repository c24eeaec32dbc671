import math

import numpy as np
import pytest
import torch

from medseg.errors import ConfigError
from medseg.losses import BoundaryConfig, BoundaryLoss
from medseg.losses.boundary import signed_distances
from medseg.task import Task

GENERATOR = torch.Generator().manual_seed(0)


def numpy_distances(region, spacing):
    """Signed distances by comparing every pair of voxels."""
    points = np.argwhere(np.ones(region.shape, bool)) * np.array(spacing)
    flat = region.ravel()
    pairs = np.linalg.norm(points[:, None] - points[None], axis=-1)
    outside = pairs[:, flat].min(1)
    inside = pairs[:, ~flat].min(1) - min(spacing)
    return np.where(flat, -inside, outside).reshape(region.shape)


def test_distances_along_a_line_by_hand():
    region = np.array([[False, False, True, True, True, False]])
    valid = np.ones(region.shape, bool)
    assert signed_distances(region, valid).tolist() == [[2, 1, 0, -1, 0, 1]]
    # the last voxel is ignored: nothing outside remains on the right
    valid[0, 5] = False
    assert signed_distances(region, valid).tolist() == [[2, 1, 0, -1, -2, 0]]


@pytest.mark.parametrize(("shape", "spacing"), [((5, 7), (1.0, 1.0)), ((4, 5, 3), (1.0, 0.5, 3.0))])
def test_distances_equal_those_of_all_pairs(shape, spacing):
    region = np.random.default_rng(0).random(shape) < 0.3
    got = signed_distances(region, np.ones(shape, bool), spacing)
    np.testing.assert_allclose(got, numpy_distances(region, spacing), rtol=1e-6)


def test_a_region_without_boundary_has_no_distances():
    valid = np.ones((3, 3), bool)
    for region in (np.zeros((3, 3), bool), np.ones((3, 3), bool)):
        assert not signed_distances(region, valid).any()


def test_the_loss_by_hand():
    # distances 0 (inside), 1, 2; p = 3/4, 1/2, 1/4: (0 + 1/2 + 2/4) / 3
    logits = torch.tensor([[0, 0, 0], [math.log(3), 0, -math.log(3)]]).view(1, 2, 1, 3)
    assert BoundaryLoss()(logits, torch.tensor([[[[1, 0, 0]]]])).item() == pytest.approx(1 / 3)
    scaled = BoundaryLoss(spacing=(1.0, 0.5))(logits, torch.tensor([[[[1, 0, 0]]]]))
    assert scaled.item() == pytest.approx(1 / 6)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_equals_numpy_and_the_gradient_of_the_paper(spatial_dims):
    # the paper's loss is mean φ p; ours adds the constant -mean φ g
    logits = torch.randn(2, 3, *(5,) * spatial_dims, generator=GENERATOR, dtype=torch.float64).requires_grad_()
    target = torch.randint(0, 3, (2, 1, *(5,) * spatial_dims), generator=GENERATOR)
    loss = BoundaryLoss()(logits, target)
    maps = [[numpy_distances(one[0].numpy() == k, (1.0,) * spatial_dims) for k in (1, 2)] for one in target]
    maps = torch.tensor(np.array(maps))
    truth = torch.stack([target[:, 0] == k for k in (1, 2)], 1).double()
    paper = (maps * logits.softmax(1)[:, 1:]).mean()
    assert loss.item() == pytest.approx((paper - (maps * truth).mean()).item())
    ours, theirs = (torch.autograd.grad(value, logits)[0] for value in (loss, paper))
    torch.testing.assert_close(ours, theirs)


def test_a_distant_false_positive_costs_more():
    target = torch.zeros(1, 1, 9, 9, dtype=torch.long)
    target[0, 0, :3, :3] = 1
    costs = []
    for position in (3, 8):
        guess = target.clone()
        guess[0, 0, position, position] = 1
        costs.append(BoundaryLoss()(40.0 * torch.cat([1 - guess, guess], 1).float(), target).item())
    # 81 pixels; the nearest pixel of the region is (2, 2)
    assert costs == pytest.approx([math.sqrt(2) / 81, 6 * math.sqrt(2) / 81])


def test_spacing_must_have_one_number_per_axis():
    with pytest.raises(ConfigError, match="2 numbers, expected 3"):
        BoundaryConfig(spacing=(1.0, 1.0)).build(Task(3, 1, 2))
