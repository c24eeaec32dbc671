import pytest
import torch
import torch.nn.functional as F

from medseg.errors import ConfigError
from medseg.losses import CrossEntropyLoss, DeepSupervisionLoss, default_loss
from medseg.losses.deep_supervision import halving_weights, resize_nearest, resolution_weights
from medseg.model_output import Output
from medseg.task import Task

GENERATOR = torch.Generator().manual_seed(0)
FULL, HALF, QUARTER = (torch.randn(2, 3, side, side, generator=GENERATOR) for side in (8, 4, 2))
LABELS = torch.randint(-1, 3, (2, 1, 8, 8), generator=GENERATOR)


def test_weights_halve_and_sum_to_one():
    # 1 + 1/2 + 1/4 = 7/4
    assert halving_weights(3) == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    assert halving_weights(1) == [1]


def test_weights_of_the_resolutions_by_hand():
    # 1 + 1/2 = 3/2; 3 + 1 = 4
    assert resolution_weights("halving_skip_lowest", 3) == pytest.approx([2 / 3, 1 / 3, 0])
    assert resolution_weights((3, 0, 1), 3) == pytest.approx([3 / 4, 0, 1 / 4])
    assert resolution_weights("halving", 3) == halving_weights(3)
    for weights in ("halving", "halving_skip_lowest", (2.0, 1.0)):
        assert resolution_weights(weights, 1) == [1]


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 1.0, 1.0), (0.0, 1.0), ()])
def test_weights_that_do_not_fit_the_resolutions_are_refused(weights):
    with pytest.raises(ConfigError, match="expected 2 numbers"):
        resolution_weights(weights, 2)


def test_logits_of_weight_zero_are_not_compared():
    loss = CrossEntropyLoss()
    expected = (2 * loss(FULL, LABELS) + loss(HALF, LABELS[..., 1::2, 1::2])) / 3
    lowest = QUARTER.clone().requires_grad_()
    got = DeepSupervisionLoss(loss, weights="halving_skip_lowest")(Output(FULL, (HALF, lowest)), LABELS)
    torch.testing.assert_close(got, expected)
    assert not got.requires_grad


def test_a_tensor_gives_the_loss_itself():
    loss = CrossEntropyLoss()
    assert DeepSupervisionLoss(loss)(FULL, LABELS) == loss(FULL, LABELS)


def test_every_resolution_meets_the_target_at_its_own_size():
    # of 2 voxels the second holds the center, of 4 the third
    loss = CrossEntropyLoss()
    parts = [loss(FULL, LABELS), loss(HALF, LABELS[..., 1::2, 1::2]), loss(QUARTER, LABELS[..., 2::4, 2::4])]
    expected = (4 * parts[0] + 2 * parts[1] + parts[2]) / 7
    got = DeepSupervisionLoss(loss)(Output(FULL, (HALF, QUARTER)), LABELS)
    torch.testing.assert_close(got, expected)


def test_the_auxiliary_head_adds_its_share():
    loss = CrossEntropyLoss()
    expected = loss(FULL, LABELS) + 0.3 * loss(HALF, LABELS[..., 1::2, 1::2])
    got = DeepSupervisionLoss(loss, aux_weight=0.3)(Output(FULL, aux=HALF), LABELS)
    torch.testing.assert_close(got, expected)


def test_output_forms_of_other_libraries():
    loss = DeepSupervisionLoss(CrossEntropyLoss())
    assert loss([FULL, HALF], LABELS) == loss(Output(FULL, (HALF,)), LABELS)
    assert loss({"out": FULL, "aux": HALF}, LABELS) == loss(Output(FULL, aux=HALF), LABELS)


def test_gradients_reach_every_resolution_with_half_logits():
    outputs = [x.clone().half().requires_grad_() for x in (FULL, HALF, QUARTER)]
    value = DeepSupervisionLoss(default_loss().build(Task(2, 1, 3)))(outputs, LABELS)
    value.backward()
    assert value.dtype == torch.float32
    assert all(x.grad is not None and x.grad.isfinite().all() and x.grad.any() for x in outputs)


def test_a_target_ignored_everywhere_costs_nothing():
    loss = DeepSupervisionLoss(default_loss().build(Task(2, 1, 3)))
    assert loss([FULL, HALF], torch.full_like(LABELS, -1)).item() == 0


@pytest.mark.parametrize("size", [(4, 3, 5), (8, 6, 10), (1, 1, 1), (7, 5, 9), (16, 12, 20)])
def test_resizing_is_the_exact_nearest_neighbor(size):
    target = torch.randint(-1, 9, (2, 1, 8, 6, 10), generator=GENERATOR)
    expected = F.interpolate(target.double(), size, mode="nearest-exact").long()
    assert torch.equal(resize_nearest(target, size), expected)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int16, torch.int64, torch.float16])
def test_resizing_keeps_the_type(dtype):
    assert resize_nearest(LABELS.to(dtype), (4, 2)).dtype == dtype
