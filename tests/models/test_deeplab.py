"""Properties of the DeepLabs that the papers state."""

import pytest
import torch
from torch import nn

from medseg.model_output import Output
from medseg.models import DeepLabV1Config, DeepLabV2Config, DeepLabV3Config, DeepLabV3PlusConfig
from medseg.models import parameter_count as count
from medseg.models.backbones import ResNetConfig
from medseg.models.layers.aspp import ASPP
from medseg.task import Task

TASK = Task(2, 3, 21)
NARROW = ResNetConfig(width=0.125)


def dilations(module):
    convs = [m for m in module.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    return [conv.dilation[0] for conv in convs]


def test_large_fov_has_20_5_million_parameters():
    # Chen et al. 2015, table 2: DeepLab-CRF-LargeFOV
    network = DeepLabV1Config().build(TASK)
    assert round(count(network) / 1e6, 1) == 20.5
    assert dilations(network.backbone) == [1] * 10 + [2] * 3  # conv5 at rate 2
    assert dilations(network.classifier) == [12]
    assert network.backbone.strides[-1] == (8, 8)


def test_the_largest_score_over_scales_is_taken():
    network = DeepLabV2Config(backbone=NARROW, scales=(0.5,)).build(TASK).eval()
    picture = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        whole = network.single_scale_logits(picture)
        half = network.single_scale_logits(
            nn.functional.interpolate(picture, scale_factor=0.5, mode="bilinear")
        )
        half = nn.functional.interpolate(half, size=whole.shape[2:], mode="bilinear")
        torch.testing.assert_close(network.raw_logits(picture).logits, torch.maximum(whole, half))


def test_every_scale_is_scored_in_training():
    output = DeepLabV2Config(backbone=NARROW).build(TASK)(torch.randn(2, 3, 64, 64))
    assert isinstance(output, Output)
    assert [deep.shape[2] for deep in output.deep] == [8, 4, 6]  # at scales 1, 0.5 and 0.75


@pytest.mark.parametrize("config", [DeepLabV3Config, DeepLabV3PlusConfig], ids=lambda c: c.__name__)
def test_evaluation_may_have_another_output_stride(config):
    settings = config(backbone=NARROW, channels=8, evaluation_output_stride=8)
    network = settings.build(TASK)
    aspp = next(module for module in network.modules() if isinstance(module, ASPP))
    picture = torch.randn(2, 3, 64, 64)

    assert network.backbone.strides[-1] == (16, 16)
    assert dilations(aspp) == [6, 12, 18]
    network.eval()
    assert network.backbone.strides[-1] == (8, 8)
    assert dilations(aspp) == [12, 24, 36]
    same = config(backbone=NARROW, channels=8, output_stride=8).build(TASK).eval()
    same.load_state_dict(network.state_dict())
    with torch.inference_mode():
        assert torch.equal(network(picture), same(picture))
    network.train()
    assert network.backbone.strides[-1] == (16, 16)
    assert dilations(aspp) == [6, 12, 18]


def test_multi_grid_multiplies_the_last_stages_rates():
    # Chen et al. 2017, section 3.2.1: at output stride 16, 2 · (1, 2, 4)
    backbone = ResNetConfig(width=0.125, multi_grid=(1, 2, 4), first_dilation="full")
    network = DeepLabV3Config(backbone=backbone).build(TASK)
    assert dilations(network.backbone.layer4) == [2, 4, 8]


def test_a_network_built_for_evaluation_starts_in_training():
    network = DeepLabV3Config(backbone=NARROW, evaluation_output_stride=8).build(TASK)
    assert network.training
    assert network.backbone.strides[-1] == (16, 16)
