"""The parts of FCN that have known values."""

import pytest
import torch

from medseg.model_output import Output
from medseg.models import FCNConfig, FCNVGGConfig
from medseg.models.backbones import ResNetConfig, VGGConfig
from medseg.models.layers.upsampling import linear_upsampling, triangle_kernel
from medseg.task import Task

NARROW = VGGConfig(depth=11, width=0.05)


def test_triangle_by_hand():
    assert triangle_kernel((4,)).tolist() == [0.25, 0.75, 0.75, 0.25]
    assert triangle_kernel((3,)).tolist() == [0.5, 1, 0.5]
    assert triangle_kernel((1,)).tolist() == [1]
    assert triangle_kernel((3, 4))[1].tolist() == [0.25, 0.75, 0.75, 0.25]
    assert triangle_kernel((4, 4, 4)).sum() == 8  # the sum is the product of the factors


@pytest.mark.parametrize("factor", [(2, 2), (8, 4), (3, 1), (2, 4, 2)])
def test_upsampling_is_linear_interpolation_away_from_the_border(factor):
    x = torch.randn(1, 3, *(5,) * len(factor), generator=torch.Generator().manual_seed(0))
    grown = linear_upsampling(3, factor, padded=True)(x)
    assert grown.shape[2:] == tuple(5 * step for step in factor)
    mode = "bilinear" if len(factor) == 2 else "trilinear"
    expected = torch.nn.functional.interpolate(x, scale_factor=tuple(map(float, factor)), mode=mode)
    inner = (..., *(slice(step, -step) for step in factor))
    torch.testing.assert_close(grown[inner], expected[inner])


@pytest.mark.parametrize(("stride", "scores"), [(32, 1), (16, 2), (8, 3)])
@pytest.mark.parametrize("padding", ["same", "original"])
def test_each_form_has_its_scores(stride, scores, padding):
    config = FCNVGGConfig(backbone=NARROW, channels=4, stride=stride, padding=padding)
    network = config.build(Task(2, 1, 2))
    assert len(network.score) == len(network.upscore) == scores
    assert network(torch.randn(1, 1, 40, 70)).shape == (1, 2, 40, 70)
    # the paper: scores start at zero, the last interpolation is fixed
    assert not network.score[0].weight.any()
    assert [layer.weight.requires_grad for layer in network.upscore] == [True] * (scores - 1) + [False]


@torch.inference_mode()
def test_at_once_scales_the_finer_scores():
    task, settings = Task(2, 1, 2), {"backbone": NARROW, "channels": 4, "kernel": 3}
    plain = FCNVGGConfig(**settings).build(task).eval()
    for parameter in plain.score.parameters():
        torch.nn.init.normal_(parameter)
    at_once = FCNVGGConfig(at_once=True, **settings).build(task).eval()
    state = plain.state_dict()
    state["score.1.weight"] = state["score.1.weight"] * 100
    state["score.2.weight"] = state["score.2.weight"] * 10000
    at_once.load_state_dict(state)
    picture = torch.randn(1, 1, 64, 64)
    torch.testing.assert_close(at_once(picture), plain(picture), atol=1e-4, rtol=1e-4)


def test_the_auxiliary_head_is_computed_in_training_only():
    network = FCNConfig(backbone=ResNetConfig(width=0.05)).build(Task(2, 1, 2))
    output = network(torch.randn(2, 1, 32, 32))
    assert isinstance(output, Output)
    assert output.aux.shape == (2, 2, 32, 32)
    assert isinstance(network.eval()(torch.randn(2, 1, 32, 32)), torch.Tensor)


def test_settings_that_contradict_are_refused():
    with pytest.raises(ValueError, match="kernel is 4; it must be odd"):
        FCNVGGConfig(kernel=4)
    with pytest.raises(ValueError, match="original is defined for kernel 7 and pool_strides 2 only"):
        FCNVGGConfig(padding="original", kernel=5)
