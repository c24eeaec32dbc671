"""Every architecture of ``medseg.models.ModelConfig``, with settings small enough for tests.

An architecture that is added to the union is tested with its defaults; add its settings to ``_SMALL`` where
those take long.
"""

from importlib.util import find_spec
from typing import Any, get_args

import pytest
import torch

from medseg.models import (
    BackboneUNetConfig,
    CustomModelConfig,
    DeepLabV1Config,
    DeepLabV2Config,
    DeepLabV3Config,
    DeepLabV3PlusConfig,
    DynUNetConfig,
    FCNConfig,
    FCNVGGConfig,
    FPNConfig,
    HRNetV2Config,
    LRASPPConfig,
    MedNeXtConfig,
    ModelConfig,
    PSPNetConfig,
    SegResNetConfig,
    SwinUNETRConfig,
    UNetConfig,
    UNetPlusPlusConfig,
    UNETRConfig,
    UNetValidConfig,
    VNetConfig,
)
from medseg.models.backbones import HRNetConfig, MobileNetV3Config, ResNetConfig, VGGConfig
from medseg.task import Task

_SMALL_SCANS: dict[str, Any] = {"width": 0.125, "stem_stride": 1, "pool_stride": 1}
R18 = ResNetConfig(depth=18, **_SMALL_SCANS)
R50 = ResNetConfig(stages=3, **_SMALL_SCANS)
VGG = VGGConfig(depth=11, width=0.125, norm="batch")
_SMALL = [
    UNetConfig(channels=(8, 12, 16), deep_supervision=1),
    UNetValidConfig(channels=(8, 12), dropout=0),
    FCNConfig(backbone=R50, output_stride=2),
    FCNVGGConfig(backbone=VGG, channels=8, kernel=3, dropout=0),
    DeepLabV1Config(backbone=VGG, output_stride=4, channels=16, dropout=0, rate=2),
    DeepLabV2Config(backbone=R18, output_stride=2, rates=(1, 2, 3), scales=(0.5,)),
    DeepLabV3Config(
        backbone=R18, output_stride=4, evaluation_output_stride=2, rates=(1, 2), channels=8, auxiliary=True
    ),
    DeepLabV3PlusConfig(backbone=R18, output_stride=4, rates=(1, 2), channels=8, low_channels=4, dropout=0),
    PSPNetConfig(backbone=R18, output_stride=2, channels=16, bins=(1, 2), dropout=0),
    HRNetV2Config(backbone=HRNetConfig(width=0.25, modules=(1, 1, 1), blocks=1, stem_strides=(1, 1))),
    LRASPPConfig(backbone=MobileNetV3Config(width=0.25, tap="first", strides=(1, 1, 2, 2, 2)), channels=16),
    FPNConfig(backbone=R18, pyramid_channels=8, channels=8, norm_groups=2, dropout=0),
    BackboneUNetConfig(backbone=R18, channels=(16, 16, 8, 8)),
    UNetPlusPlusConfig(backbone=VGG, channels=(16, 16, 8, 8, 8), deep_supervision=True),
    SegResNetConfig(channels=4, norm_groups=2, blocks_down=(1, 1, 1), blocks_up=(1, 1)),
    DynUNetConfig(channels=(4, 8, 8), deep_supervision=1),
    VNetConfig(dropout=0),
    MedNeXtConfig(channels=8, blocks=(1, 1), expansion=(2, 2), bottleneck_blocks=1, deep_supervision=True),
    SwinUNETRConfig(channels=12, depths=(1, 1, 1, 1), window=2),
    UNETRConfig(image_size=32, channels=4, hidden=24, mlp=24, heads=2),
]
_MEMBERS = [member for member in get_args(get_args(ModelConfig)[0]) if member is not CustomModelConfig]
_SETTINGS = {type(config): config for config in _SMALL}
CONFIGS = [_SETTINGS[member] if member in _SETTINGS else member() for member in _MEMBERS]
"""One configuration of every architecture, in the order of the union."""

IN_3D = {"dynunet", "mednext", "segresnet", "swin_unetr", "unet", "unet_valid", "unetr", "vnet"}
"""Architectures that are mostly used in 3D; the others are mostly used in 2D."""

NEED_EINOPS = (SwinUNETRConfig, UNETRConfig)


def case(config):
    without = isinstance(config, NEED_EINOPS) and find_spec("einops") is None
    return pytest.param(config, marks=pytest.mark.skipif(without, reason="einops is not installed"))


def build(config, spatial_dims, *, in_channels=2, num_classes=3, seed=0):
    """A network, its zeros (scores that start at zero) replaced by small numbers."""
    torch.manual_seed(seed)
    network = config.build(Task(spatial_dims, in_channels, num_classes))
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return network


def image(*size, batch=1, channels=2):
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(1))


def each_in_usual_dims(*left_out, costly=(), also=()):
    """Every architecture, as (config, spatial_dims), in the dimensions it is mostly used in.

    Args:
        left_out: classes of configurations to leave out.
        costly: names of architectures whose tests are exhaustive, like those in the other dimensions.
        also: (name, spatial_dims) to include beside the usual ones.
    """
    for config in CONFIGS:
        if isinstance(config, left_out):
            continue
        usual = 3 if config.name in IN_3D else 2
        for dims in (2, 3):
            exhaustive = (dims != usual or config.name in costly) and (config.name, dims) not in also
            marks = (*case(config).marks, *((pytest.mark.exhaustive,) if exhaustive else ()))
            yield pytest.param(config, dims, marks=marks, id=f"{dims}-{config.name}")
