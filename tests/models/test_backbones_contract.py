"""What every backbone must do, over every member of the union."""

from typing import get_args

import pytest
import torch
from pydantic import TypeAdapter

from medseg.errors import ConfigError
from medseg.models.backbones import BackboneConfig, HRNetConfig, MobileNetV3Config, ResNetConfig, VGGConfig
from medseg.models.layers.factory import LayerFactory

CONFIGS = [
    ResNetConfig(width=0.125),
    ResNetConfig(depth=18, width=0.125, deep_stem=(32, 32, 64), norm="instance"),
    ResNetConfig(width=0.125, groups=4, group_width=16, stride_on="1x1", norm="group", norm_groups=4),
    VGGConfig(depth=11, width=0.125),
    VGGConfig(depth=13, width=0.125, norm="batch", pool_kernel=3),
    HRNetConfig(width=0.25, modules=(1, 1, 1), blocks=1),
    MobileNetV3Config(width=0.25),
]
DILATED = [config for config in CONFIGS if not isinstance(config, HRNetConfig)]


def named(config):
    return f"{config.name}-{config.norm}"


configs = pytest.mark.parametrize("config", CONFIGS, ids=named)
dilated = pytest.mark.parametrize("config", DILATED, ids=named)
dims = pytest.mark.parametrize("spatial_dims", [2, 3])


def build(config, spatial_dims, output_stride=None):
    torch.manual_seed(0)
    return config.build(spatial_dims, 2, output_stride)


def image(*size, batch=1):
    return torch.randn(batch, 2, *size, generator=torch.Generator().manual_seed(1))


def test_every_member_of_the_union_is_here():
    assert {type(config) for config in CONFIGS} == set(get_args(get_args(BackboneConfig)[0]))


@configs
@dims
def test_maps_have_the_declared_channels_and_strides(config, spatial_dims):
    backbone = build(config, spatial_dims)
    features = backbone(image(*(64,) * spatial_dims))
    assert len(features) == len(backbone.channels) == len(backbone.strides)
    for feature, channels, stride in zip(features, backbone.channels, backbone.strides, strict=True):
        assert feature.shape == (1, channels, *(64 // step for step in stride))


@configs
@dims
@pytest.mark.parametrize("side", [1, 3, 33])
def test_small_and_odd_images_train_or_are_refused_with_the_size_to_pad_to(config, spatial_dims, side):
    backbone = build(config, spatial_dims)
    picture = image(*(side,) * spatial_dims)
    if side < backbone.minimum_size[0]:
        with pytest.raises(ValueError, match=r"pad it to \(32, 32"):
            backbone(picture)
        return
    features = backbone(picture)
    torch.stack([feature.square().mean() for feature in features]).sum().backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert side < 33 or parameter.grad.any(), name


@dilated
@dims
@pytest.mark.parametrize("output_stride", [8, 16])
def test_output_stride_is_reached_and_can_be_switched(config, spatial_dims, output_stride):
    backbone = build(config, spatial_dims, output_stride).eval()
    picture = image(*(32,) * spatial_dims)
    assert max(backbone.strides[-1]) == output_stride
    with torch.inference_mode():
        dense = backbone(picture)[-1]
        assert dense.shape[2:] == (32 // output_stride,) * spatial_dims
        backbone.set_output_stride(None)
        torch.testing.assert_close(backbone(picture)[-1], build(config, spatial_dims).eval()(picture)[-1])
        backbone.set_output_stride(output_stride)
        torch.testing.assert_close(backbone(picture)[-1], dense)


@pytest.mark.parametrize("depth", [18, 50])
@torch.inference_mode()
def test_dilated_maps_hold_the_strided_maps(depth):
    # strides turned into dilations only add positions between those of the strided network
    picture = image(64, 64)
    config = ResNetConfig(depth=depth, width=0.125)
    strided = build(config, 2).eval()(picture)[-1]
    dense = build(config, 2, 8).eval()(picture)[-1]
    torch.testing.assert_close(dense[..., ::4, ::4], strided, atol=1e-5, rtol=1e-4)
    full = build(config.model_copy(update={"first_dilation": "full"}), 2, 8).eval()(picture)[-1]
    assert (full[..., ::4, ::4] - strided).abs().max() > 0.1 * strided.std()


@configs
def test_checkpointing_changes_neither_gradients_nor_statistics(config):
    plain = build(config, 2)
    saving = build(config.model_copy(update={"checkpointing": True}), 2)
    picture = image(33, 33, batch=2)
    for backbone in (plain, saving):
        backbone(picture)[-1].square().mean().backward()
    for (name, one), other in zip(plain.named_parameters(), saving.parameters(), strict=True):
        if one.grad is not None and other.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, msg=name)
        assert (one.grad is None) == (other.grad is None), name
    for (name, one), other in zip(plain.named_buffers(), saving.buffers(), strict=True):
        assert torch.equal(one, other), name


@configs
def test_settings_survive_yaml(config):
    adapter = TypeAdapter(BackboneConfig)
    assert adapter.validate_python(adapter.dump_python(config, mode="json")) == config


@pytest.mark.parametrize(
    ("config", "stride"),
    [
        (
            ResNetConfig(depth=18, width=0.1, stem_stride=(2, 2, 1), stage_strides=((2, 2, 1), 2, 2)),
            (32, 32, 8),
        ),
        (VGGConfig(depth=11, width=0.1, pool_strides=((2, 2, 1), 2, 2, 2, 2)), (32, 32, 16)),
        (VGGConfig(depth=11, width=0.1, pool_strides=(4, (1, 2, 2), 2, 2, 1)), (16, 32, 32)),
        (
            HRNetConfig(
                width=0.2,
                modules=(1, 1, 1),
                blocks=1,
                stem_strides=((2, 2, 1), 2),
                branch_strides=(2, 2, (2, 2, 1)),
            ),
            (32, 32, 8),
        ),
        (MobileNetV3Config(width=0.2, strides=((2, 2, 1), 2, 2, 2, 2)), (32, 32, 16)),
    ],
    ids=["resnet", "vgg", "vgg-4", "hrnet", "mobilenetv3"],
)
def test_axes_may_have_strides_of_their_own(config, stride):
    backbone = build(config, 3)
    assert backbone.strides[-1] == stride
    assert backbone(image(64, 64, 32))[-1].shape[2:] == tuple(
        size // step for size, step in zip((64, 64, 32), stride, strict=True)
    )
    with pytest.raises(ConfigError, match="3 numbers, but the task has 2 spatial axes"):
        build(config, 2)


def test_an_axis_is_dilated_by_its_own_strides():
    # (2, 2, 1) four times and 2 once: depth never passes 8, so it is never dilated
    strides = ((2, 2, 1), (2, 2, 1), 2)
    config = ResNetConfig(
        depth=18, width=0.1, stem_stride=2, pool_stride=(2, 2, 1), stage_strides=strides, first_dilation="full"
    )
    backbone = build(config, 3, 8)
    assert backbone.strides[-1] == (8, 8, 4)
    assert backbone.layer4[1].conv1.dilation == (4, 4, 1)


def test_first_block_keeps_the_previous_dilation_as_torchvision_has_it():
    backbone = ResNetConfig(width=0.125, multi_grid=(1, 2, 4)).build(2, 1, 8)
    rates = [[block.conv2.dilation[0] for block in layer] for layer in (backbone.layer3, backbone.layer4)]
    assert rates == [[1, 2, 2, 2, 2, 2], [2, 8, 16]]  # layer4: (2, 4, 4) times (1, 2, 4)


def test_impossible_settings_raise():
    with pytest.raises(ConfigError, match=r"stem has stride 4\. Set model\.output_stride to 4"):
        ResNetConfig().build(2, 3, 2)
    with pytest.raises(ConfigError, match="HRNet has no dilated form"):
        HRNetConfig(width=0.2, modules=(1, 1, 1), blocks=1).build(2, 3, 8)
    with pytest.raises(ValueError, match="multi_grid has 2 factors, but the last stage has 3 blocks"):
        ResNetConfig(multi_grid=(1, 2))
    with pytest.raises(ValueError, match="depth 18 has basic blocks"):
        ResNetConfig(depth=18, groups=32)


def test_pooling_misses_no_voxel():
    # the windows of a stride of 4 are 4 wide, however narrow the kernel
    assert LayerFactory(2).max_pool(2, (4, 2)).kernel_size == (4, 2)
    assert LayerFactory(2).max_pool(2, (1, 2)).kernel_size == (1, 2)
    assert LayerFactory(2).max_pool(3, (1, 2)).kernel_size == (3, 3)
