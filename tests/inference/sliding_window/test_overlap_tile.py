"""Tiles give the whole image's logits for translation-invariant networks; others raise an error."""

import pytest
import torch
from torch import nn

from medseg.errors import ConfigError
from medseg.inference.sliding_window.overlap_tile import measure_receptive_field, overlap_tile_logits
from medseg.models import DeepLabV3PlusConfig, FCNConfig, UNetConfig
from medseg.models.backbones import ResNetConfig
from medseg.task import Task

R18 = ResNetConfig(depth=18, width=0.125, stem_stride=1, pool_stride=1, stages=3)


def network(config, dims, seed=0):
    torch.manual_seed(seed)
    built = config.build(Task(dims, 1, 3))
    for module in built.modules():  # statistics as after a training
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return built.double().eval()


def tiled(built, image, size, dims):
    field = measure_receptive_field(built.float(), dims, 1)
    built.double()
    with torch.no_grad():
        planes = list(
            overlap_tile_logits(lambda box: image[(slice(None), *box)], image.shape[1:], size, built, field)
        )
    assert [one.start for one in planes] == sorted(one.start for one in planes)
    return torch.cat([one.tensor for one in planes], dim=1), field


@pytest.mark.parametrize(
    ("config", "shape", "size"),
    [
        (UNetConfig(channels=(4, 8), norm="batch"), (50, 37), (32, 32)),
        (UNetConfig(channels=(4, 8, 8), norm="batch", down="maxpool"), (150, 40), (104, 64)),
        (UNetConfig(channels=(2, 4), norm="batch"), (40, 18, 40), (32, 32, 32)),
    ],
    ids=["U-Net", "deeper", "3D"],
)
def test_tiles_equal_the_whole(config, shape, size):
    built = network(config, len(shape))
    image = torch.randn(1, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found, field = tiled(built, image, size, len(shape))
    with torch.no_grad():
        whole = built(image[None])[0]
    torch.testing.assert_close(found.double(), whole, atol=1e-6, rtol=1e-6)
    assert all(length > n or n >= 2 * halo for n, halo, length in zip(size, field.halo, shape, strict=True))


def test_networks_that_are_not_the_same_everywhere_are_refused():
    image = torch.randn(1, 60, 60, dtype=torch.float64)
    with pytest.raises(ConfigError, match="depend on the tile"):
        tiled(network(UNetConfig(channels=(4, 8), norm="instance"), 2), image, (32, 32), 2)
    with pytest.raises(ConfigError, match="covers the whole image"):
        tiled(network(DeepLabV3PlusConfig(backbone=R18, rates=(1, 2), channels=8), 2), image, (32, 32), 2)
    with pytest.raises(ConfigError, match=r"Set inference.roi_size to at least \d+"):
        tiled(network(FCNConfig(backbone=R18, output_stride=2), 2), image, (16, 16), 2)
