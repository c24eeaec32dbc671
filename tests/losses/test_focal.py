import math

import pytest
import torch
import torch.nn.functional as F
from monai.losses.focal_loss import FocalLoss as MonaiFocalLoss

from medseg.errors import ConfigError
from medseg.losses import CrossEntropyLoss, FocalConfig, FocalLoss
from medseg.task import Task

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(2, 3, 4, 5, 6, generator=GENERATOR)
LABELS = torch.randint(0, 3, (2, 1, 4, 5, 6), generator=GENERATOR)
REGIONS = torch.randint(0, 2, LOGITS.shape, generator=GENERATOR).float()
LOG3 = math.log(3)


def test_softmax_by_hand():
    # logits (log 3, 0): the voxel of class 0 has p = 3/4, that of class 1 p = 1/4; γ = 2:
    # (-(1/4)² log 3/4 - (3/4)² log 1/4) / 2
    logits = torch.tensor([LOG3, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 2)
    expected = (-math.log(3 / 4) / 16 - 9 * math.log(1 / 4) / 16) / 2
    assert FocalLoss()(logits, torch.tensor([[[[0, 1]]]])).item() == pytest.approx(expected)


def test_alpha_by_hand():
    # p = 1/2 everywhere, γ = 1: each voxel -1/2 log 1/2 = h; α = 1/4 for foreground, 3/4 for background
    h = -0.5 * math.log(0.5)
    target = torch.tensor([[[[0, 0, 0, 1]]]])
    logits = torch.zeros(1, 2, 1, 4)
    one = FocalLoss(gamma=1, alpha=0.25)(logits, target)
    assert one.item() == pytest.approx((3 * 3 / 4 + 1 / 4) / 4 * h)
    each = FocalLoss(gamma=1, alpha=(0.1, 0.9))(logits, target)
    assert each.item() == pytest.approx((3 * 0.1 + 0.9) / 4 * h)


def test_sigmoid_alpha_of_each_region_by_hand():
    # p = 1/2, γ = 1: region 0 is there, α = 0.9; region 1 is not, 1 - α = 0.8
    target = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    loss = FocalLoss("sigmoid", gamma=1, alpha=(0.9, 0.2))(torch.zeros(1, 2, 1, 1), target)
    assert loss.item() == pytest.approx((0.9 + 0.8) / 2 * -0.5 * math.log(0.5))


@pytest.mark.parametrize("weights", [None, torch.tensor([0.2, 1.0, 1.8])])
@pytest.mark.parametrize(("activation", "target"), [("softmax", LABELS), ("sigmoid", REGIONS)])
def test_without_gamma_it_is_cross_entropy(activation, target, weights):
    focal = FocalLoss(activation, gamma=0, class_weights=weights)
    entropy = CrossEntropyLoss(activation, class_weights=weights)
    torch.testing.assert_close(focal(LOGITS, target), entropy(LOGITS, target))


@pytest.mark.parametrize("alpha", [None, 0.25])
def test_sigmoid_equals_monai(alpha):
    ours = FocalLoss("sigmoid", alpha=alpha)(LOGITS, REGIONS)
    torch.testing.assert_close(ours, MonaiFocalLoss(alpha=alpha)(LOGITS, REGIONS))


@pytest.mark.parametrize("alpha", [None, 0.25])
def test_softmax_equals_monai_summed_over_its_channels(alpha):
    # MONAI averages a one-hot loss over channels too, and so divides by K = 3 once more
    ours = FocalLoss(alpha=alpha)(LOGITS, LABELS)
    theirs = MonaiFocalLoss(use_softmax=True, to_onehot_y=True, alpha=alpha)(LOGITS, LABELS)
    torch.testing.assert_close(ours, 3 * theirs)


def test_monai_with_an_ignored_label_is_k_times_too_large():
    # its mean then divides a sum over voxels and channels by the number of voxels: nothing is ignored here,
    # and merely naming a label to ignore triples the loss of 3 regions
    regions = F.one_hot(LABELS[:, 0], 3).movedim(-1, 1).float()
    plain = MonaiFocalLoss()(LOGITS, regions)
    named = MonaiFocalLoss(ignore_index=255)(LOGITS, regions)
    torch.testing.assert_close(named, 3 * plain)
    torch.testing.assert_close(FocalLoss("sigmoid")(LOGITS, regions), plain)


def test_ignored_voxels_leave_the_mean_of_the_others():
    # every second voxel is gone from the sum and from what it is divided by
    ignored = REGIONS.clone()
    ignored[..., ::2] = -1
    kept = FocalLoss("sigmoid")(LOGITS[..., 1::2], REGIONS[..., 1::2])
    torch.testing.assert_close(FocalLoss("sigmoid")(LOGITS, ignored), kept)


def test_confident_voxels_with_a_small_gamma_have_gradients():
    # d (1 - p)^γ / dp is infinite at p = 1 for γ < 1
    logits = torch.tensor([200.0, -200.0]).view(1, 2, 1, 1).requires_grad_()
    FocalLoss(gamma=0.5)(logits, torch.zeros(1, 1, 1, 1, dtype=torch.int64)).backward()
    assert logits.grad.isfinite().all()


def test_easy_voxels_count_less_than_in_cross_entropy():
    logits = 3 * F.one_hot(LABELS[:, 0], 3).movedim(-1, 1).float()
    assert FocalLoss()(logits, LABELS) < 0.02 * CrossEntropyLoss()(logits, LABELS)


def test_alpha_of_another_number_of_classes_is_refused():
    with pytest.raises(ConfigError, match="2 numbers, expected one, or 3"):
        FocalConfig(alpha=(0.5, 0.5)).build(Task(2, 1, 3))
