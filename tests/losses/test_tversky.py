import math

import numpy as np
import pytest
import torch
from monai.losses.tversky import TverskyLoss as MonaiTverskyLoss

from medseg.losses import ClassMean, DiceLoss, FocalTverskyConfig, TverskyConfig, TverskyLoss
from medseg.task import Task

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(2, 3, 4, 5, 6, generator=GENERATOR, dtype=torch.float64)
LABELS = torch.randint(0, 3, (2, 1, 4, 5, 6), generator=GENERATOR)
LOG3 = math.log(3)


def numpy_tversky(p, g, alpha, beta, smooth=1e-5):
    """Σpg / (Σpg + α Σp(1 - g) + β Σ(1 - p)g) of one class."""
    shared = (p * g).sum()
    return (shared + smooth) / (shared + alpha * (p * (1 - g)).sum() + beta * ((1 - p) * g).sum() + smooth)


def test_false_positives_and_negatives_by_hand():
    # pixels of class 1: p = 3/4 where it is, 1/4 where it is not. Σpg = 3/4, FP = 1/4, FN = 1/4:
    # α = 0.2, β = 0.6: 1 - 0.75 / (0.75 + 0.05 + 0.15) = 1 - 15/19
    logits = torch.tensor([[0.0, LOG3], [LOG3, 0.0]]).T.reshape(1, 2, 1, 2)
    loss = TverskyLoss(alpha=0.2, beta=0.6)(logits, torch.tensor([[[[1, 0]]]]))
    assert loss.item() == pytest.approx(4 / 19, abs=1e-5)


def test_the_focal_exponent_by_hand():
    # p = 1/2 in 2 pixels, one of class 1: 1 - T = 1 - 0.5 / (0.5 + 0.3/2 + 0.7/2) = 1/2; (1/2)^(3/4)
    loss = FocalTverskyConfig().build(Task(2, 1, 2))
    value = loss(torch.zeros(1, 2, 1, 2), torch.tensor([[[[1, 0]]]]))
    assert value.item() == pytest.approx(0.5**0.75, abs=1e-5)


def test_equal_weights_give_the_dice_loss():
    torch.testing.assert_close(
        TverskyLoss(alpha=0.5, beta=0.5, smooth=0.5e-5)(LOGITS, LABELS), DiceLoss()(LOGITS, LABELS)
    )


@pytest.mark.parametrize("per", ["batch", "sample"])
def test_equals_monai_and_numpy_where_every_class_is_present(per):
    theirs = MonaiTverskyLoss(
        softmax=True, to_onehot_y=True, include_background=False, alpha=0.3, beta=0.7, batch=per == "batch"
    )
    ours = TverskyLoss(mean=ClassMean(per=per))(LOGITS, LABELS)
    torch.testing.assert_close(ours, theirs(LOGITS, LABELS), rtol=1e-4, atol=1e-5)
    p, labels = LOGITS.softmax(1).numpy(), LABELS[:, 0].numpy()
    parts = [slice(None)] if per == "batch" else [slice(0, 1), slice(1, 2)]
    expected = [1 - numpy_tversky(p[part, k], labels[part] == k, 0.3, 0.7) for part in parts for k in (1, 2)]
    assert ours.item() == pytest.approx(np.mean(expected), rel=1e-9)


def test_focal_loss_of_each_class_is_taken_to_the_power():
    p, labels = LOGITS.softmax(1).numpy(), LABELS[:, 0].numpy()
    expected = np.mean([(1 - numpy_tversky(p[:, k], labels == k, 0.4, 0.6)) ** (1 / 2) for k in (1, 2)])
    loss = FocalTverskyConfig(alpha=0.4, beta=0.6, gamma=2).build(Task(3, 1, 3))
    assert loss(LOGITS, LABELS).item() == pytest.approx(expected, rel=1e-9)


def test_more_weight_on_false_negatives_prefers_too_much_to_too_little():
    target = torch.zeros(1, 1, 1, 6, dtype=torch.long)
    target[..., :3] = 1
    much, little = torch.zeros_like(target), torch.zeros_like(target)
    much[..., :4], little[..., :2] = 1, 1
    loss = TverskyConfig(alpha=0.1, beta=0.9).build(Task(2, 1, 2))
    costs = [loss(40.0 * torch.cat([1 - guess, guess], 1).float(), target) for guess in (much, little)]
    assert costs[0] < costs[1]
