import math

import numpy as np
import pytest
import torch

from medseg.losses import CrossEntropyLoss, TopKCrossEntropyLoss

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(2, 3, 4, 5, 6, generator=GENERATOR, dtype=torch.float64)
LABELS = torch.randint(-1, 3, (2, 1, 4, 5, 6), generator=GENERATOR)
REGIONS = torch.randint(-1, 2, LOGITS.shape, generator=GENERATOR).double()
WEIGHTS = torch.tensor([0.2, 1.0, 1.8])


def numpy_losses():
    """Cross-entropy of the voxels of LABELS that are not ignored, by hand."""
    p = np.exp(LOGITS.numpy())
    p = np.moveaxis(p / p.sum(1, keepdims=True), 1, -1)
    labels = LABELS[:, 0].numpy()
    return -np.log(p[labels >= 0][np.arange((labels >= 0).sum()), labels[labels >= 0]])


def test_the_two_hardest_of_four_by_hand():
    # p of class 1 = 3/4, 1/4, 1/2, 3/4; all four are class 1: the hardest half is (log 4 + log 2) / 2
    logits = torch.tensor([[0, 0, 0, 0], [math.log(3), -math.log(3), 0, math.log(3)]]).view(1, 2, 1, 4)
    loss = TopKCrossEntropyLoss(fraction=0.5)(logits, torch.ones(1, 1, 1, 4, dtype=torch.long))
    assert loss.item() == pytest.approx((math.log(4) + math.log(2)) / 2)


@pytest.mark.parametrize("fraction", [0.1, 0.37, 1.0])
def test_equals_the_mean_of_the_sorted_losses(fraction):
    losses = np.sort(numpy_losses())[::-1]
    expected = losses[: round(fraction * len(losses))].mean()
    assert TopKCrossEntropyLoss(fraction=fraction)(LOGITS, LABELS).item() == pytest.approx(expected)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize(("activation", "target"), [("softmax", LABELS), ("sigmoid", REGIONS)])
def test_all_voxels_give_cross_entropy(activation, target, weights):
    ours = TopKCrossEntropyLoss(activation, fraction=1, class_weights=weights)
    torch.testing.assert_close(
        ours(LOGITS, target), CrossEntropyLoss(activation, class_weights=weights)(LOGITS, target)
    )


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_probabilities_of_all_voxels_give_cross_entropy(weights):
    soft = torch.rand(LOGITS.shape, generator=GENERATOR).softmax(1)
    soft = torch.where(LABELS < 0, -1.0, soft)
    ours = TopKCrossEntropyLoss(fraction=1, class_weights=weights)
    torch.testing.assert_close(ours(LOGITS, soft), CrossEntropyLoss(class_weights=weights)(LOGITS, soft))


def test_at_least_one_voxel_is_selected_and_only_it_has_a_gradient():
    logits = LOGITS.clone().requires_grad_()
    loss = TopKCrossEntropyLoss(fraction=1e-6)(logits, LABELS)
    loss.backward()
    assert loss.item() == pytest.approx(numpy_losses().max())
    assert int(logits.grad.abs().sum(1).count_nonzero()) == 1


def test_voxels_are_selected_by_their_weighted_loss():
    # losses log 2 (class 0, weight 4) and log 4 (class 1, weight 1): 4 log 2 > log 4, so the first is hardest
    logits = torch.tensor([[0, math.log(3)], [0, 0]]).view(1, 2, 1, 2)
    loss = TopKCrossEntropyLoss(fraction=0.5, class_weights=torch.tensor([4.0, 1.0]))
    assert loss(logits, torch.tensor([[[[0, 1]]]])).item() == pytest.approx(math.log(2))
