import math

import pytest
import torch

from medseg.losses import CrossEntropyLoss, DiceLoss, FocalLoss
from medseg.losses.partial import merge_unknown
from medseg.output import Output


def one_hot(target, classes):
    return torch.nn.functional.one_hot(target[:, 0].clamp(min=0), classes).movedim(-1, 1).float()


@pytest.mark.parametrize("loss", [CrossEntropyLoss(), DiceLoss(), DiceLoss(denominator="squared")])
def test_certain_probabilities_are_labels(loss):
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, 5)
    target = torch.randint(-1, 3, (2, 1, 4, 5))
    soft = torch.where(target < 0, -1.0, one_hot(target, 3))
    assert loss(logits, soft) == pytest.approx(float(loss(logits, target)), rel=1e-5)


def test_cross_entropy_of_probabilities_by_hand():
    # p = (1/4, 3/4), t = (1/2, 1/2): -(log 1/4 + log 3/4) / 2
    logits = torch.tensor([1.0, 3.0]).log().view(1, 2, 1, 1).expand(1, 2, 2, 2)
    soft = torch.full((1, 2, 2, 2), 0.5)
    assert CrossEntropyLoss()(logits, soft) == pytest.approx(-(math.log(0.25) + math.log(0.75)) / 2)
    weighted = CrossEntropyLoss(class_weights=torch.tensor([1.0, 3.0]))
    assert weighted(logits, soft) == pytest.approx(-(math.log(0.25) + 3 * math.log(0.75)) / 4)


def test_probabilities_that_are_matched_cost_least():
    soft = torch.tensor([0.2, 0.8]).view(1, 2, 1, 1).expand(1, 2, 3, 3)
    best = CrossEntropyLoss()(soft.log(), soft)
    for other in (0.1, 0.3, 0.5):
        guess = torch.tensor([other, 1 - other]).log().view(1, 2, 1, 1).expand(1, 2, 3, 3)
        assert CrossEntropyLoss()(guess, soft) > best


def test_the_focal_loss_has_no_soft_form():
    with pytest.raises(ValueError, match="of labels, not of probabilities"):
        FocalLoss()(torch.zeros(1, 2, 2, 2), torch.full((1, 2, 2, 2), 0.5))
    with pytest.raises(ValueError, match="soft labels have the logits' shape"):
        CrossEntropyLoss()(torch.zeros(1, 3, 2, 2), torch.full((1, 2, 2, 2), 0.5))


def test_unknown_classes_count_as_background():
    # probabilities 0.2, 0.3, 0.5; class 1 unknown in the first sample: background 0.5
    logits = torch.tensor([0.2, 0.3, 0.5]).log().view(1, 3, 1, 1).repeat(2, 1, 1, 1)
    known = torch.tensor([[True, False, True], [True, True, True]])
    merged = merge_unknown(Output(logits, (logits,)), known)
    for one in (merged.logits, merged.deep[0]):
        probabilities = one.softmax(1)[:, :, 0, 0]
        assert probabilities[0].tolist() == pytest.approx([0.5, 0, 0.5])
        assert probabilities[1].tolist() == pytest.approx([0.2, 0.3, 0.5])


def test_unknown_classes_get_no_gradient_of_their_own_absence():
    # a voxel labelled background where class 1 is unknown: raising class 1 must cost nothing
    logits = torch.tensor([0.0, 5.0, 0.0]).view(1, 3, 1, 1).requires_grad_()
    target = torch.zeros(1, 1, 1, 1, dtype=torch.long)
    known = torch.tensor([[True, False, True]])
    loss = CrossEntropyLoss()(merge_unknown(Output(logits), known).logits, target)
    loss.backward()
    assert loss < 0.01  # the sum of background and unknown has nearly all probability
    assert float(logits.grad[0, 1, 0, 0]) <= 0


def test_with_all_known_nothing_changes():
    output = Output(torch.randn(1, 3, 2, 2))
    assert merge_unknown(output, torch.ones(1, 3, dtype=torch.bool)) is output
