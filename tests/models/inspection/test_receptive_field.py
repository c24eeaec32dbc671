"""Receptive fields by hand, and of every architecture beside the support of its gradients."""

import pytest
import torch
from architectures import CONFIGS, case
from torch import nn

from medseg.model_output import logits_of
from medseg.models import FCNVGGConfig, UNetConfig, UNetValidConfig
from medseg.models.backbones import ResNetConfig, VGGConfig
from medseg.models.inspection.catalog import architecture_configs
from medseg.models.inspection.receptive_field import (
    ReceptiveField,
    network_receptive_field,
    receptive_field,
    visible_spans,
)
from medseg.task import Task


def on_meta(config, dims=2, channels=3):
    with torch.device("meta"):
        return config.build(Task(dims, channels, 21))


class Last(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.backbone = config.build(2, 3)

    def forward(self, image):
        return self.backbone(image)[-1]


def test_a_stack_by_hand():
    # two 3x3: 5; a pooling of 2: 6, from here a step is 2; a 3x3 with dilation 3: 6 + 2 * 3 * 2 = 18
    layers = [nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, dilation=3)]
    assert receptive_field(nn.Sequential(*layers), (64, 128), 3) == ReceptiveField(18, 18, 2)
    assert receptive_field(nn.Sequential(*layers), (64, 128), 3, part="1") == ReceptiveField(5, 5, 2)
    # linear interpolation by 2 looks at two steps; a transposed convolution of kernel = stride at one
    assert (
        receptive_field(
            nn.Sequential(*layers, nn.Upsample(scale_factor=2, mode="bilinear")), (64, 128), 3
        ).largest
        == 20
    )
    assert receptive_field(
        nn.Sequential(*layers, nn.ConvTranspose2d(4, 2, 2, 2)), (64, 128), 3
    ) == ReceptiveField(18, 18, 2)
    # ... and of kernel 3 at one or two
    assert receptive_field(
        nn.Sequential(*layers, nn.ConvTranspose2d(4, 2, 3, 2, 1)), (64, 128), 3
    ) == ReceptiveField(18, 20, 2)


def test_ends_of_the_image():
    first, last, _ = visible_spans(nn.Conv2d(1, 1, 3, padding=1), (4, 5), 1)
    assert (first.tolist(), last.tolist()) == ([1, 1, 2, 3, 4], [2, 3, 4, 5, 5])


def test_vgg_sees_404_in_fc6():
    # two or three 3x3 a level, and its pooling: 5, 6; 14, 16; 40, 44; 92, 100; 196, 212; fc6: + 6 * 32
    network = on_meta(FCNVGGConfig(stride=32))
    assert receptive_field(network, (32, 4096), 3, part="head.fc6") == ReceptiveField(404, 404, 32)
    assert network_receptive_field(network, 2, 3) == ReceptiveField(
        436, 436, 32
    )  # each voxel lies between two scores


def test_resnet_sees_483_with_strides_on_1x1_and_427_on_3x3():
    # stem 7, pooling 11 at stride 4; 3 blocks of + 8: 35. Strides before the 3x3: 4 of + 16: 99, 6 of + 32: 291
    # and 3 of + 64: 483. On the 3x3, the first of each stage has the step before: 35 + 8 + 3 * 16 = 91,
    # + 16 + 5 * 32 = 267, + 32 + 2 * 64 = 427
    with torch.device("meta"):
        early, late = Last(ResNetConfig(stride_on="1x1")), Last(ResNetConfig())
    assert receptive_field(early, (64, 4096), 3) == ReceptiveField(483, 483, 32)
    assert receptive_field(late, (64, 4096), 3) == ReceptiveField(427, 427, 32)


def test_unpadded_unet_by_its_sizes():
    # the smallest image it takes: 188, 184 / 2, 88 / 2, 40 / 2, 16 / 2, 4, up 8 - 4, 8 - 4, 8 - 4, 8 - 4 = 4.
    # Those four voxels see all of it. The next is 204 and gives 20, of which the others see 204.
    network = on_meta(UNetValidConfig())
    assert network.output_size(1) + 2 * network.border == 188
    assert network.output_size(5) + 2 * network.border == 204
    assert network_receptive_field(network, 2, 3) == ReceptiveField(188, 204, 16)
    first, last, _ = visible_spans(network, (32, 512), 3)
    widths = (last - first + 1)[200:216].tolist()
    assert sorted(set(widths)) == [188, 204]
    assert widths.count(188) == 4


def test_along_another_axis_with_other_strides():
    network = on_meta(UNetConfig(channels=(4, 8), stride=(1, (1, 2, 2))), dims=3)
    along_x, along_z = (visible_spans(network, (64, 16, 64), 3, axis=axis) for axis in (0, 2))
    # x: five 3x3 in a row with the level below (2 + 2 + 2 … of stride 1): 1 + 2 * (2 + 2 + 2)
    assert int((along_x.last - along_x.first + 1)[32]) == 13
    assert along_x.stride, along_z.stride == (1, 2)


NORMS = nn.modules.batchnorm._NormBase | nn.GroupNorm
HIDING = NORMS | nn.ReLU | nn.LeakyReLU | nn.Hardswish | nn.PReLU | nn.ELU | nn.GELU


def plain(network):
    """Without what hides a gradient: norms, activations, and poolings that choose."""
    for name, module in list(network.named_modules()):
        other = None
        if isinstance(module, HIDING):
            other = nn.Identity()
        elif isinstance(module, nn.MaxPool2d):
            other = nn.AvgPool2d(module.kernel_size, module.stride, module.padding, module.ceil_mode)
        if other is not None:
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, other)
    return network


@pytest.mark.parametrize("config", [case(c) for c in CONFIGS], ids=lambda c: c.name)
def test_gradients_have_the_same_support(config):
    torch.manual_seed(0)
    network = plain(config.build(Task(2, 1, 2)).double().eval())
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    width = 32 if config.name == "unetr" else 60
    image = torch.randn(1, 1, 8, width, dtype=torch.float64, requires_grad=True)
    logits = logits_of(network(image))
    first, last, _ = visible_spans(network, (8, width), 1)
    for column in range(0, width, 5):
        (gradient,) = torch.autograd.grad(logits[..., column].sum(), image, retain_graph=True)
        sizes = gradient.abs().amax((0, 1, 2))
        seen = (sizes > 1e-30 * sizes.max()).nonzero()[:, 0] + 1  # masked attention leaves e^-100
        assert (int(first[column]), int(last[column])) == (int(seen[0]), int(seen[-1])), column


@pytest.mark.exhaustive  # test_catalog prints the same list
def test_every_architecture_is_measured():
    from medseg.models.inspection.catalog import build_catalog

    entries = {entry.name: entry for entry in build_catalog(64)}
    assert len(entries) == len(architecture_configs())
    assert all(entry.receptive_field for entry in entries.values())
    assert entries["deeplabv3"].receptive_field == "all"
    assert entries["unet_valid"].receptive_field == (188, 204)
    assert (entries["fcn"].output_stride, entries["hrnetv2"].output_stride) == (8, 32)


def test_an_unknown_operation_is_named():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.fft.fft2(x)

    with pytest.raises(NotImplementedError, match="fft"):
        receptive_field(Odd(), (8, 8), 1)


def test_parts_of_vgg_can_be_configured():
    with torch.device("meta"):
        network = Last(VGGConfig())
    assert receptive_field(network, (64, 4096), 3, part="backbone.features.4") == ReceptiveField(6, 6, 32)
