import math

import pytest
import torch
import torch.nn.functional as F

from medseg.losses import CrossEntropyLoss

LOGITS = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(-1, 3, (2, 1, 4, 5, 6), generator=torch.Generator().manual_seed(1))
WEIGHTS = torch.tensor([0.2, 1.0, 1.8])


def test_uniform_logits_give_log_k():
    # p = 1/3 for each of 3 classes: -log(1/3)
    target = torch.tensor([[[[0, 1], [2, 0]]]])
    assert CrossEntropyLoss()(torch.zeros(1, 3, 2, 2), target).item() == pytest.approx(math.log(3))


def test_weights_make_a_weighted_mean_by_hand():
    # logits (log 3, 0): p = 3/4 for class 0, 1/4 for class 1; one voxel of each, weighing 1 and 3:
    # (1 * -log(3/4) + 3 * -log(1/4)) / 4
    logits = torch.tensor([math.log(3), 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 2)
    loss = CrossEntropyLoss(class_weights=torch.tensor([1.0, 3.0]))
    expected = (-math.log(3 / 4) - 3 * math.log(1 / 4)) / 4
    assert loss(logits, torch.tensor([[[[0, 1]]]])).item() == pytest.approx(expected)


@pytest.mark.parametrize("weight", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_equals_torch(weight, smoothing):
    ours = CrossEntropyLoss(class_weights=weight, label_smoothing=smoothing)(LOGITS, LABELS)
    theirs = F.cross_entropy(LOGITS, LABELS[:, 0], weight, ignore_index=-1, label_smoothing=smoothing)
    torch.testing.assert_close(ours, theirs)


def test_sigmoid_equals_torch_on_the_voxels_that_count():
    target = torch.randint(-1, 2, LOGITS.shape, generator=torch.Generator().manual_seed(2)).float()
    kept = target >= 0
    expected = F.binary_cross_entropy_with_logits(LOGITS[kept], target[kept])
    torch.testing.assert_close(CrossEntropyLoss("sigmoid")(LOGITS, target), expected)


def test_sigmoid_weights_and_ignored_channels_by_hand():
    # logits log 3: p = 3/4. Region 0 is there (-log 3/4, weight 1), region 1 is not (-log 1/4, weight 2),
    # region 2 is ignored: (-log(3/4) - 2 log(1/4)) / 3
    logits = torch.full((1, 3, 1, 1), math.log(3))
    target = torch.tensor([1.0, 0.0, -1.0]).view(1, 3, 1, 1)
    loss = CrossEntropyLoss("sigmoid", class_weights=torch.tensor([1.0, 2.0, 5.0]))(logits, target)
    assert loss.item() == pytest.approx((-math.log(3 / 4) - 2 * math.log(1 / 4)) / 3)


def test_sigmoid_smoothing_by_hand():
    # ε = 0.2 turns a target of 1 into 0.9: -(0.9 log 3/4 + 0.1 log 1/4)
    logits = torch.full((1, 1, 1, 1), math.log(3))
    loss = CrossEntropyLoss("sigmoid", label_smoothing=0.2)(logits, torch.ones(1, 1, 1, 1))
    assert loss.item() == pytest.approx(-(0.9 * math.log(3 / 4) + 0.1 * math.log(1 / 4)))


def test_only_voxels_of_a_class_without_weight_cost_nothing():
    # torch's weighted mean is 0 / 0 here
    loss = CrossEntropyLoss(class_weights=torch.tensor([0.0, 1.0, 1.0]), label_smoothing=0.1)
    assert loss(LOGITS, torch.zeros_like(LABELS)).item() == 0
