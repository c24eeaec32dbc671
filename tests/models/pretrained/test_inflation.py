"""2D weights in 3D networks: the 2D logits, slice by slice."""

import pytest
import torch

from medseg.errors import ModelFileError
from medseg.models import (
    DeepLabV3Config,
    DeepLabV3PlusConfig,
    FCNConfig,
    FCNVGGConfig,
    HRNetV2Config,
    PSPNetConfig,
    UNetConfig,
)
from medseg.models.backbones import HRNetConfig, ResNetConfig, VGGConfig
from medseg.models.pretrained.inflation import adapt_channels, center_kernel, inflate, mean_kernel
from medseg.task import Task

R50 = ResNetConfig(width=0.125)
DEEP_STRIDES = ResNetConfig(width=0.125, stem_stride=(2, 2, 1), stage_strides=((2, 2, 1), 2, 2))
NETWORKS = {
    "fcn": FCNConfig(backbone=R50),
    "deeplabv3": DeepLabV3Config(backbone=R50, output_stride=8, channels=16),
    "deeplabv3plus": DeepLabV3PlusConfig(backbone=R50, channels=16),
    "pspnet": PSPNetConfig(backbone=R50, channels=16),
    "hrnetv2": HRNetV2Config(backbone=HRNetConfig(width=0.25, modules=(1, 2, 1), blocks=2)),
}


def randomized(network):
    """Norms with statistics and scales of their own, scores away from zero."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_mean"):
            tensor.copy_(0.2 * torch.randn(tensor.shape, generator=generator))
        elif name.endswith("running_var"):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
        elif tensor.ndim > 2:
            fan_in = tensor[0].numel()
            tensor.copy_(torch.randn(tensor.shape, generator=generator) / fan_in**0.5)
    return network.eval()


def pair(config, config3d=None, classes=3, channels=2):
    flat = randomized(config.build(Task(2, channels, classes)))
    return flat, (config3d or config).build(Task(3, channels, classes)).eval()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("depth_axis", [-1, -3])
@torch.inference_mode()
def test_constant_volume_has_the_pictures_logits_in_every_slice(name, depth_axis):
    flat, solid = pair(NETWORKS[name])
    solid.load_state_dict(inflate(flat.state_dict(), solid, depth_axis=depth_axis), strict=True)
    picture = torch.randn(1, 2, 33, 41, generator=torch.Generator().manual_seed(2))
    expected = flat(picture).unsqueeze(depth_axis)
    assert expected.std() > 0.01
    volume = picture.unsqueeze(depth_axis).repeat_interleave(19, dim=depth_axis)
    difference = (solid(volume) - expected).abs().amax()
    assert difference < 1e-4 * max(1.0, float(expected.abs().amax()))


@torch.inference_mode()
def test_strides_along_depth_may_differ():
    flat, solid = pair(FCNConfig(backbone=R50), FCNConfig(backbone=DEEP_STRIDES))
    solid.load_state_dict(inflate(flat.state_dict(), solid))
    picture = torch.randn(1, 2, 33, 33, generator=torch.Generator().manual_seed(2))
    volume = picture[..., None].expand(-1, -1, -1, -1, 7)
    assert (solid(volume) - flat(picture)[..., None]).abs().amax() < 1e-4


@torch.inference_mode()
def test_mean_kernels_are_exact_only_far_from_the_ends():
    # two 3x3 convolutions, no bias of position: zero padding reaches two slices in
    flat = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3, padding=1), torch.nn.Conv2d(2, 1, 3, padding=1))
    solid = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3, padding=1), torch.nn.Conv3d(2, 1, 3, padding=1))
    solid.load_state_dict(inflate(flat.state_dict(), solid, spread=mean_kernel))
    picture = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    error = (solid(picture[..., None].expand(-1, -1, -1, -1, 9)) - flat(picture)[..., None]).abs()
    worst = error.amax(dim=(0, 1, 2, 3))
    assert worst[2:-2].amax() < 1e-5
    assert worst[0] > 1e-2


@torch.inference_mode()
def test_transposed_convolutions_keep_a_constant_constant():
    config = UNetConfig(channels=(4, 8, 8), norm="batch")
    flat, solid = pair(config)
    solid.load_state_dict(inflate(flat.state_dict(), solid))
    picture = torch.randn(1, 2, 16, 16, generator=torch.Generator().manual_seed(2))
    volume = picture[..., None].expand(-1, -1, -1, -1, 8)
    assert (solid(volume) - flat(picture)[..., None]).abs().amax() < 1e-4


def test_linear_upsampling_is_inflated_to_the_3d_networks_own():
    config = FCNVGGConfig(backbone=VGGConfig(width=0.05), channels=4, kernel=3)
    flat, solid = config.build(Task(2, 1, 2)), config.build(Task(3, 1, 2))
    inflated = inflate(flat.state_dict(), solid)
    for key, tensor in solid.state_dict().items():
        if key.startswith("upscore."):
            assert torch.equal(inflated[key], tensor)


def test_kernels_by_hand():
    weight = torch.tensor([[[[2.0]]]])
    assert center_kernel(weight, 3).flatten().tolist() == [0, 2, 0]
    assert mean_kernel(weight, 4).flatten().tolist() == [0.5] * 4
    with pytest.raises(ValueError, match="depth 2 has no center"):
        center_kernel(weight, 2)


def test_channels_by_hand():
    weight = torch.tensor([3.0, 6.0, 9.0]).view(1, 3, 1, 1)
    assert adapt_channels(weight, 3) is weight
    assert adapt_channels(weight, 1).flatten().tolist() == [18]
    assert adapt_channels(weight, 2).flatten().tolist() == [4.5, 9]  # times 3/2
    assert adapt_channels(weight, 4).flatten().tolist() == [2.25, 4.5, 6.75, 2.25]  # times 3/4


def test_weights_that_do_not_fit_are_named():
    flat, solid = pair(FCNConfig(backbone=R50))
    state = flat.state_dict()
    state["extra"] = torch.zeros(1)
    with pytest.raises(ModelFileError, match=r"1 unknown \(extra\)"):
        inflate(state, solid)
    del state["extra"], state["backbone.conv1.weight"]
    with pytest.raises(ModelFileError, match=r"1 keys missing \(backbone\.conv1\.weight\)"):
        inflate(state, solid)
    wider = FCNConfig(backbone=ResNetConfig(width=0.25)).build(Task(3, 2, 3))
    with pytest.raises(ModelFileError, match=r"inflates to .* but the network has"):
        inflate(flat.state_dict(), wider)
