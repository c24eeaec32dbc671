import math

import pytest
import torch

from medseg.losses import (
    BoundaryLoss,
    ClassMean,
    ClDiceLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    LovaszLoss,
    TopKCrossEntropyLoss,
    TverskyLoss,
    default_loss,
)
from medseg.losses.partial_labels import merge_unannotated_logits, merge_unannotated_target
from medseg.task import Task


def one_hot(target, classes):
    return torch.nn.functional.one_hot(target[:, 0].clamp(min=0), classes).movedim(-1, 1).float()


@pytest.mark.parametrize(
    "loss",
    [
        CrossEntropyLoss(),
        DiceLoss(),
        DiceLoss(denominator="squared"),
        TverskyLoss(),
        TopKCrossEntropyLoss(fraction=0.3),
        BoundaryLoss(),
        ClDiceLoss(),
    ],
    ids=lambda one: type(one).__name__,
)
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


def test_the_focal_and_the_lovasz_loss_have_no_soft_form():
    for loss in (FocalLoss(), LovaszLoss()):
        with pytest.raises(ValueError, match="does not support soft labels"):
            loss(torch.zeros(1, 2, 2, 2), torch.full((1, 2, 2, 2), 0.5))
    with pytest.raises(ValueError, match="soft labels must have the logits' shape"):
        CrossEntropyLoss()(torch.zeros(1, 3, 2, 2), torch.full((1, 2, 2, 2), 0.5))


def test_unknown_classes_count_as_background():
    # probabilities 0.2, 0.3, 0.5; class 1 unknown in the first sample: background 0.5
    logits = torch.tensor([0.2, 0.3, 0.5]).log().view(1, 3, 1, 1).repeat(2, 1, 1, 1)
    annotated = torch.tensor([[True, False, True], [True, True, True]])
    probabilities = merge_unannotated_logits(logits, annotated).softmax(1)[:, :, 0, 0]
    assert probabilities[0].tolist() == pytest.approx([0.5, 0, 0.5])
    assert probabilities[1].tolist() == pytest.approx([0.2, 0.3, 0.5])


def test_unknown_classes_get_no_gradient_of_their_own_absence():
    # a voxel labeled background where class 1 is unknown: raising class 1 must cost nothing
    logits = torch.tensor([0.0, 5.0, 0.0]).view(1, 3, 1, 1).requires_grad_()
    target = torch.zeros(1, 1, 1, 1, dtype=torch.long)
    loss = CrossEntropyLoss()(logits, target, torch.tensor([[True, False, True]]))
    loss.backward()
    assert loss < 0.01  # the sum of background and unknown has nearly all probability
    assert float(logits.grad[0, 1, 0, 0]) <= 0


PARTIAL = [
    CrossEntropyLoss(),
    CrossEntropyLoss(label_smoothing=0.1),
    CrossEntropyLoss(class_weights=torch.tensor([1.0, 2.0, 3.0]), label_smoothing=0.1),
    DiceLoss(),
    DiceLoss(absent="count", per="sample"),
    FocalLoss(),
    TverskyLoss(mean=ClassMean(per="sample", absent="count")),
    LovaszLoss(),
    LovaszLoss(mean=ClassMean(per="sample", absent="count")),
    BoundaryLoss(),
    ClDiceLoss(mean=ClassMean(per="sample", absent="count")),
    TopKCrossEntropyLoss(fraction=0.5),
    default_loss().build(Task(2, 1, 3)),
]


@pytest.mark.parametrize("loss", PARTIAL, ids=lambda one: type(one).__name__)
def test_with_complete_annotations_nothing_changes(loss):
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 4, 5), torch.randint(-1, 3, (2, 1, 4, 5))
    annotated = torch.ones(2, 3, dtype=torch.bool)
    torch.testing.assert_close(loss(logits, target, annotated), loss(logits, target))


@pytest.mark.parametrize("loss", PARTIAL, ids=lambda one: type(one).__name__)
def test_a_stray_voxel_of_a_class_not_annotated_does_not_blow_up_the_loss(loss):
    """It was a loss of 220, and of 334 with label smoothing: one case ruined the training."""
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 1, 8, 8))
    annotated = torch.tensor([[True, False, True], [True, True, True]])
    assert (target[0] == 1).any()
    value = loss(logits, target, annotated)
    assert value < 2
    # what the map says of class 1 in the first case is its background
    merged = torch.where((target == 1) & ~annotated[:, 1].view(2, 1, 1, 1), 0, target)
    torch.testing.assert_close(value, loss(logits, merged, annotated))


def test_label_smoothing_is_spread_over_the_classes_that_can_be():
    # p = 0.5 (background and class 1), 0.5; target 0: 0.95·log 2 + 0.05·log 2 with ε = 0.1 over two classes
    logits = torch.tensor([0.2, 0.3, 0.5]).log().view(1, 3, 1, 1)
    annotated = torch.tensor([[True, False, True]])
    target = torch.zeros(1, 1, 1, 1, dtype=torch.long)
    loss = CrossEntropyLoss(label_smoothing=0.1)(logits, target, annotated)
    assert loss == pytest.approx(math.log(2), rel=1e-5)


def test_a_class_that_is_not_annotated_does_not_count_as_perfect_overlap():
    # class 1 is unknown; p(2) = 1/2 on both voxels, one of which is 2: 1 - 2·0.5 / (1 + 1) = 0.5
    logits = torch.tensor([0.2, 0.3, 0.5]).log().view(1, 3, 1, 1).expand(1, 3, 1, 2)
    annotated = torch.tensor([[True, False, True]])
    target = torch.tensor([[[[0, 2]]]])
    for per in ("batch", "sample"):
        assert DiceLoss(absent="count", per=per)(logits, target, annotated) == pytest.approx(0.5, abs=1e-4)


def test_probabilities_of_a_class_not_annotated_move_to_the_background():
    soft = torch.tensor([0.1, 0.4, 0.5]).view(1, 3, 1, 1)
    annotated = torch.tensor([[True, False, True]])
    assert merge_unannotated_target(soft, annotated).flatten().tolist() == pytest.approx([0.5, 0, 0.5])
    ignored = torch.full((1, 3, 1, 1), -1.0)
    assert torch.equal(merge_unannotated_target(ignored, annotated), ignored)
    assert DiceLoss()(soft.log(), soft, annotated).isfinite()


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32])
def test_regions_not_annotated_count_nowhere(dtype):
    logits = torch.tensor([3.0, -2.0]).view(1, 2, 1, 1)
    target = torch.ones(1, 2, 1, 1).to(dtype)
    annotated = torch.tensor([[True, False]])
    # log(1 + e^-3) of the first region alone
    assert CrossEntropyLoss("sigmoid")(logits, target, annotated) == pytest.approx(math.log1p(math.exp(-3)))
