import math
from itertools import product

import numpy as np
import pytest
import torch

from medseg.losses import ClassMean, LovaszLoss
from medseg.losses.lovasz import jaccard_losses

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(2, 3, 4, 5, generator=GENERATOR, dtype=torch.float64)
LABELS = torch.randint(-1, 3, (2, 1, 4, 5), generator=GENERATOR)
REGIONS = torch.randint(-1, 2, LOGITS.shape, generator=GENERATOR).double()


def jaccard_of(wrong, truth):
    """1 - IoU if the voxels ``wrong`` are classified wrongly and all others correctly."""
    predicted = truth ^ wrong
    union = (truth | predicted).sum()
    return 1 - (truth & predicted).sum() / union if union else 0.0


def numpy_lovasz(errors, truth):
    """The Lovász extension by its definition: Σ m_i (Δ({π_1 … π_i}) - Δ({π_1 … π_i-1}))."""
    total, before = 0.0, 0.0
    wrong = np.zeros(truth.shape, bool)
    for index in np.argsort(-errors):
        wrong[index] = True
        after = jaccard_of(wrong, truth)
        total, before = total + errors[index] * (after - before), after
    return total


@pytest.mark.parametrize("truth", list(product([0.0, 1.0], repeat=4)))
def test_increases_are_those_of_the_jaccard_loss(truth):
    mask = np.array(truth) > 0
    values = [jaccard_of(np.arange(4) < count, mask) for count in range(5)]
    assert jaccard_losses(torch.tensor(truth)).tolist() == pytest.approx(np.diff(values))


def test_softmax_by_hand():
    # class 1 in the first of two pixels, p(1) = 1/4 and 1/2. Class 1: error 3/4 (missed: IoU 1 -> 0, weight 1):
    # 3/4. Class 0: errors 3/4 (false positive: IoU 1 -> 1/2), 1/2 (missed: 1/2 -> 0): 3/8 + 1/4
    logits = torch.tensor([[math.log(3), 0.0], [0.0, 0.0]]).view(1, 2, 1, 2)
    loss = LovaszLoss()(logits, torch.tensor([[[[1, 0]]]]))
    assert loss.item() == pytest.approx((3 / 4 + 5 / 8) / 2)


def test_hinge_by_hand():
    # logits 2 (present: error 0) and 1/2 (absent: error 3/2, a false positive: IoU 1 -> 1/2): 3/4
    loss = LovaszLoss("sigmoid")(
        torch.tensor([2.0, 0.5]).view(1, 1, 1, 2), torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    )
    assert loss.item() == pytest.approx(0.75)


@pytest.mark.parametrize("per", ["batch", "sample"])
def test_softmax_equals_the_definition(per):
    p, labels = LOGITS.softmax(1).numpy(), LABELS[:, 0].numpy()
    parts = [slice(None)] if per == "batch" else [slice(0, 1), slice(1, 2)]
    expected = []
    for part in parts:
        kept = labels[part] >= 0
        for k in range(3):
            truth = labels[part][kept] == k
            expected.append(numpy_lovasz(np.abs(truth - p[part, k][kept]), truth))
    loss = LovaszLoss(mean=ClassMean(per=per, include_background=True))(LOGITS, LABELS)
    assert loss.item() == pytest.approx(np.mean(expected))


def test_hinge_equals_the_definition():
    expected = []
    for k in range(3):
        kept = REGIONS[:, k].numpy() >= 0
        truth = REGIONS[:, k].numpy()[kept] > 0
        margins = LOGITS[:, k].numpy()[kept] * (2 * truth - 1)
        expected.append(numpy_lovasz(np.maximum(0, 1 - margins), truth))
    assert LovaszLoss("sigmoid")(LOGITS, REGIONS).item() == pytest.approx(np.mean(expected))


def test_a_counted_absent_region_costs_its_largest_error():
    # no voxel of the region: the first false positive already makes the IoU 0
    loss = LovaszLoss("sigmoid", mean=ClassMean(absent="count"))
    logits = torch.tensor([0.5, -3.0, 1.0]).view(1, 1, 1, 3)
    assert loss(logits, torch.zeros(1, 1, 1, 3)).item() == pytest.approx(2.0)
    assert LovaszLoss("sigmoid")(logits, torch.zeros(1, 1, 1, 3)).item() == 0


def test_certain_predictions_cost_one_minus_the_iou():
    # class 1: 3 voxels, 2 of them found and 1 false positive: IoU 2/4; class 0: 2 of 3, 1 wrong: 2/4
    target, guess = torch.tensor([1, 1, 1, 0, 0, 0]), torch.tensor([1, 1, 0, 1, 0, 0])
    logits = 100.0 * torch.nn.functional.one_hot(guess, 2).T.reshape(1, 2, 1, 6)
    assert LovaszLoss()(logits, target.view(1, 1, 1, 6)).item() == pytest.approx(0.5)
