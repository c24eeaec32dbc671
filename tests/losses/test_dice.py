import math

import pytest
import torch
from monai.losses.dice import DiceLoss as MonaiDiceLoss

from medseg.losses import DiceLoss

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(2, 3, 4, 5, 6, generator=GENERATOR)
LABELS = torch.randint(0, 3, (2, 1, 4, 5, 6), generator=GENERATOR)
LOG3 = math.log(3)  # logits (log 3, 0) and (0, log 3) are p = (3/4, 1/4) and (1/4, 3/4)


def row(*pixels):
    """Logits (1, 2, 1, N) from one pair a pixel."""
    return torch.tensor(pixels).T.reshape(1, 2, 1, len(pixels))


def test_uniform_logits_give_one_half():
    # p = 1/2 everywhere, each class owns 2 of 4 pixels: 1 - 2*1 / (2 + 2) = 1/2
    target = torch.tensor([[[[0, 1], [1, 0]]]])
    assert DiceLoss()(torch.zeros(1, 2, 2, 2), target) == pytest.approx(0.5, abs=1e-4)


def test_a_perfect_answer_costs_nothing():
    logits = 100 * torch.nn.functional.one_hot(LABELS[:, 0], 3).movedim(-1, 1).float()
    assert DiceLoss()(logits, LABELS).item() == pytest.approx(0, abs=1e-6)


def test_linear_and_squared_denominators_by_hand():
    # class 1 has p = 3/4 where it is and 1/4 where it is not:
    # linear 1 - 2 * 3/4 / (1 + 1) = 1/4; squared 1 - 2 * 3/4 / (9/16 + 1/16 + 1) = 1 - 24/26 = 1/13
    logits, target = row((0.0, LOG3), (LOG3, 0.0)), torch.tensor([[[[1, 0]]]])
    assert DiceLoss()(logits, target).item() == pytest.approx(1 / 4, abs=1e-5)
    assert DiceLoss(denominator="squared")(logits, target).item() == pytest.approx(1 / 13, abs=1e-5)


def test_background_and_class_weights_by_hand():
    # pixels: class 1 with p = (1/4, 3/4); class 0 with p = (1/2, 1/2).
    # class 0: 1 - 2 * 1/2 / (3/4 + 1) = 3/7; class 1: 1 - 2 * 3/4 / (5/4 + 1) = 1/3
    logits, target = row((0.0, LOG3), (0.0, 0.0)), torch.tensor([[[[1, 0]]]])
    assert DiceLoss()(logits, target).item() == pytest.approx(1 / 3, abs=1e-5)
    with_background = DiceLoss(include_background=True)(logits, target)
    assert with_background.item() == pytest.approx((3 / 7 + 1 / 3) / 2, abs=1e-5)
    weighted = DiceLoss(include_background=True, class_weights=torch.tensor([1.0, 3.0]))(logits, target)
    assert weighted.item() == pytest.approx((3 / 7 + 3 * 1 / 3) / 4, abs=1e-5)


def test_batch_and_sample_by_hand():
    # sample 0: class 1 in 1 of 2 pixels; sample 1: in both; p = 1/2 everywhere.
    # sample: 1 - 1 / (1 + 1) = 1/2 and 1 - 2 / (1 + 2) = 1/3; batch: 1 - 2 * 1.5 / (2 + 3) = 2/5
    logits, target = torch.zeros(2, 2, 1, 2), torch.tensor([[[[0, 1]]], [[[1, 1]]]])
    assert DiceLoss(per="sample")(logits, target).item() == pytest.approx(5 / 12, abs=1e-5)
    assert DiceLoss(per="batch")(logits, target).item() == pytest.approx(2 / 5, abs=1e-5)


def test_an_absent_class_is_skipped_or_counted():
    # 3 classes of p = 1/3, class 2 absent. class 1: 1 - 2 * 1/3 / (2/3 + 1) = 3/5; class 2, counted: 1 - 0
    logits, target = torch.zeros(1, 3, 1, 2), torch.tensor([[[[0, 1]]]])
    assert DiceLoss()(logits, target).item() == pytest.approx(3 / 5, abs=1e-4)
    assert DiceLoss(absent="count")(logits, target).item() == pytest.approx((3 / 5 + 1) / 2, abs=1e-4)


def test_only_background_costs_nothing_when_absent_classes_are_skipped():
    logits = LOGITS.clone().requires_grad_()
    loss = DiceLoss()(logits, torch.zeros_like(LABELS))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


def test_overlapping_regions_by_hand():
    # p = 1/2 everywhere; region 0 fills both pixels: 1 - 2 / (1 + 2) = 1/3; region 1 one of them: 1/2
    target = torch.tensor([[1.0, 1.0], [1.0, 0.0]]).view(1, 2, 1, 2)
    assert DiceLoss("sigmoid")(torch.zeros(1, 2, 1, 2), target).item() == pytest.approx(5 / 12, abs=1e-5)
    # the second pixel of region 0 ignored: 1 - 1 / (1/2 + 1) = 1/3 again; of region 1: the same
    target[..., 1] = -1
    assert DiceLoss("sigmoid")(torch.zeros(1, 2, 1, 2), target).item() == pytest.approx(1 / 3, abs=1e-5)


@pytest.mark.parametrize("per", ["batch", "sample"])
@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("background", [False, True])
def test_equals_monai_where_every_class_is_present(per, squared, background):
    theirs = MonaiDiceLoss(
        softmax=True,
        to_onehot_y=True,
        squared_pred=squared,
        include_background=background,
        batch=per == "batch",
    )
    denominator = "squared" if squared else "linear"
    ours = DiceLoss(denominator=denominator, per=per, include_background=background)
    torch.testing.assert_close(ours(LOGITS, LABELS), theirs(LOGITS, LABELS))


def test_a_large_volume_of_half_logits_where_monai_overflows():
    # Σp over 64³ voxels is above 65504, the largest float16: MONAI divides by infinity
    logits = torch.zeros(1, 2, 64, 64, 64, dtype=torch.float16)
    labels = torch.ones(1, 1, 64, 64, 64, dtype=torch.int64)
    monai = MonaiDiceLoss(softmax=True, to_onehot_y=True, include_background=False)
    assert monai(logits, labels).item() == 1
    # p = 1/2 everywhere, all of it class 1: 1 - 2 * 1/2 / (1/2 + 1) = 1/3
    assert DiceLoss()(logits, labels).item() == pytest.approx(1 / 3, abs=1e-5)


def test_softmax_of_one_class_without_background_is_refused():
    with pytest.raises(ValueError, match="at least 2 classes"):
        DiceLoss()(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2, dtype=torch.int64))
