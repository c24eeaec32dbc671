"""Decoders on every backbone."""

import pytest
import torch

from medseg.errors import ConfigError
from medseg.models import BackboneUNetConfig, FPNConfig, UNetPlusPlusConfig
from medseg.models.backbones import HRNetConfig, MobileNetV3Config, ResNetConfig, VGGConfig
from medseg.task import Task

BACKBONES = [
    ResNetConfig(depth=18, width=0.125),
    ResNetConfig(depth=18, width=0.125, stem_stride=1, pool_stride=1),
    ResNetConfig(depth=18, width=0.125, stages=2),
    VGGConfig(depth=11, width=0.125),
    HRNetConfig(width=0.25, modules=(1, 1, 1), blocks=1),
    MobileNetV3Config(width=0.25),
]
backbones = pytest.mark.parametrize("backbone", BACKBONES, ids=lambda b: f"{b.name}-{BACKBONES.index(b)}")


@backbones
@pytest.mark.parametrize("decoder", [BackboneUNetConfig, UNetPlusPlusConfig], ids=lambda d: d.__name__)
@pytest.mark.parametrize("up", ["nearest", "linear"])
@pytest.mark.parametrize("full_skip", [True, False])
def test_decoder_takes_every_backbone(backbone, decoder, up, full_skip):
    network = decoder(backbone=backbone, up=up, full_skip=full_skip).build(Task(2, 1, 2))
    assert network(torch.randn(2, 1, 33, 50)).shape == (2, 2, 33, 50)


@backbones
def test_pyramid_takes_every_backbone(backbone):
    network = FPNConfig(backbone=backbone, pyramid_channels=8, channels=8).build(Task(2, 1, 2))
    assert network(torch.randn(2, 1, 33, 50)).shape == (2, 2, 33, 50)


def test_skips_are_the_maps_below_the_images_size_unless_asked():
    backbone = VGGConfig(depth=11, width=0.125)
    with_full = BackboneUNetConfig(backbone=backbone).build(Task(2, 1, 2))
    without = BackboneUNetConfig(backbone=backbone, full_skip=False).build(Task(2, 1, 2))
    assert with_full.skips == [4, 3, 2, 1, 0]
    assert without.skips == [4, 3, 2, 1]


def test_wrong_numbers_of_channels_are_refused():
    with pytest.raises(ConfigError, match=r"channels has 2 entries, .* has 4 steps. Give 4"):
        BackboneUNetConfig(backbone=HRNetConfig(), channels=(8, 4)).build(Task(2, 1, 2))
