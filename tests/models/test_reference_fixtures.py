"""Equality with the published implementations: weights by recipe, strict loading, outputs within tolerance."""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medseg.config.base import Spec
from medseg.models import (
    BackboneUNetConfig,
    DeepLabV2Config,
    DeepLabV3Config,
    DeepLabV3PlusConfig,
    FCNConfig,
    FCNVGGConfig,
    FPNConfig,
    HRNetV2Config,
    LRASPPConfig,
    PSPNetConfig,
    UNetPlusPlusConfig,
)
from medseg.models.backbones import HRNetConfig, MobileNetV3Config, ResNetConfig, VGGConfig
from medseg.models.layers.padding import resize_linear
from medseg.models.layers.upsampling import triangle_kernel
from medseg.models.pretrained.inflation import inflate
from medseg.models.pretrained.key_mapping import KEY_TABLES
from medseg.task import Task

pytestmark = pytest.mark.data

FULL50 = ResNetConfig(first_dilation="full")


class Reference(NamedTuple):
    """A published network as one of ours, and whose keys its weights have."""

    config: Spec
    table: str


TV, SMP_UNET = "torchvision_segmentation", "smp_unet"
NETWORKS = {
    "fcn_resnet50": Reference(FCNConfig(), TV),
    "fcn_resnet101": Reference(FCNConfig(backbone=ResNetConfig(depth=101)), TV),
    "deeplabv3_resnet50": Reference(DeepLabV3Config(output_stride=8, auxiliary=True), TV),
    "deeplabv3_mobilenet_v3_large": Reference(
        DeepLabV3Config(
            backbone=MobileNetV3Config(tap="first"), rates=(12, 24, 36), auxiliary=True, auxiliary_level=-3
        ),
        "torchvision_segmentation_mobilenet",
    ),
    "lraspp_mobilenet_v3_large": Reference(LRASPPConfig(), "torchvision_segmentation_mobilenet"),
    "fcn32s_vgg16": Reference(FCNVGGConfig(backbone=VGGConfig(), padding="original", stride=32), "fcn_vgg"),
    "fcn16s_vgg16": Reference(FCNVGGConfig(backbone=VGGConfig(), padding="original", stride=16), "fcn_vgg"),
    "fcn8s_vgg16": Reference(FCNVGGConfig(backbone=VGGConfig(), padding="original"), "fcn_vgg"),
    "fcn8s_atonce_vgg16": Reference(
        FCNVGGConfig(backbone=VGGConfig(), padding="original", at_once=True), "fcn_vgg"
    ),
    "deeplabv2_resnet101_msc": Reference(DeepLabV2Config(), "deeplabv2_caffe"),
    "hrnetv2_w18": Reference(HRNetV2Config(), "hrnetv2"),
    "hrnetv2_w48": Reference(HRNetV2Config(backbone=HRNetConfig(branch_width=48)), "hrnetv2"),
    "semseg_pspnet50": Reference(PSPNetConfig(), "semseg_pspnet"),
    "semseg_pspnet101": Reference(
        PSPNetConfig(backbone=ResNetConfig(depth=101, deep_stem=(64, 64, 128), first_dilation="full")),
        "semseg_pspnet",
    ),
    "smp_unet_resnet34": Reference(BackboneUNetConfig(full_skip=False), SMP_UNET),
    "smp_unet_vgg16": Reference(
        BackboneUNetConfig(backbone=VGGConfig(), full_skip=False, center=True), SMP_UNET
    ),
    "smp_unetplusplus_resnet34": Reference(UNetPlusPlusConfig(full_skip=False), "smp_unetpp"),
    "smp_fpn_resnet50": Reference(FPNConfig(align_corners=True), "smp_fpn"),
    "smp_pspnet_resnet50": Reference(
        PSPNetConfig(
            backbone=ResNetConfig(stages=2),
            output_stride=None,
            norm_single_bin=False,
            fuse_kernel=1,
            score_kernel=3,
            auxiliary=False,
        ),
        "smp_pspnet",
    ),
    "smp_deeplabv3_resnet50": Reference(
        DeepLabV3Config(backbone=FULL50, output_stride=8, align_corners=True), "smp_deeplabv3"
    ),
    "smp_deeplabv3plus_resnet50": Reference(
        DeepLabV3PlusConfig(
            backbone=FULL50,
            rates=(12, 24, 36),
            norm_between=False,
            refine=True,
            decoder_convs=1,
            align_corners=True,
        ),
        "smp_deeplabv3plus",
    ),
}


def filled(recipe: ModuleType, name: str) -> nn.Module:
    """The network of a fixture with its weights, loaded strictly."""
    config, table = NETWORKS[name]
    manifest = recipe.manifest()[name]
    classes = next(iter(manifest["outputs"].values()))["shape"][1]
    state = recipe.state_dict(name)
    for key in manifest.get("bilinear", ()):
        kernel = torch.zeros_like(state[key])
        kernel[range(classes), range(classes)] = triangle_kernel(kernel.shape[2:])
        state[key] = kernel
    network = config.build(Task(2, 3, classes))  # pyright: ignore[reportAttributeAccessIssue]
    network.load_state_dict(KEY_TABLES[table].rename(state).state, strict=True)
    return network.eval()


def image(recipe: ModuleType, size: str) -> torch.Tensor:
    return torch.from_numpy(recipe.make_input((1, 3, *map(int, size.split("x")))))


def output(network: nn.Module, name: str, picture: torch.Tensor) -> torch.Tensor:
    """The network's output under the fixture's name for it."""
    if name == "aux":
        features = network.backbone(picture)
        level = getattr(getattr(network, "config", None), "auxiliary_level", -2)
        return resize_linear(network.aux_classifier(features[level]), picture.shape[2:])
    if name == "single":
        return network.single_scale_logits(picture)
    if name in ("msc_max", "logits"):
        return network.raw_logits(picture).logits
    return network(picture)


LIKE_OTHERS = ("fcn32s", "fcn16s", "fcn8s_atonce", "fcn_resnet101", "semseg_pspnet101", "hrnetv2_w48")
"""Networks that differ from another one in a number: their tests are exhaustive."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.exhaustive) if name.startswith(LIKE_OTHERS) else name
        for name in NETWORKS
    ],
)
@torch.inference_mode()
def test_network_equals_its_reference(name, recipe):
    network = filled(recipe, name)
    outputs = {}
    for case in recipe.manifest()[name]["outputs"]:
        size, kind = case.split("/")
        outputs[case] = output(network, kind, image(recipe, size)).numpy()
    errors = recipe.check(name, outputs)
    assert set(errors) == set(recipe.manifest()[name]["outputs"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "fcn_resnet50",
        "hrnetv2_w18",
        *(
            pytest.param(name, marks=pytest.mark.exhaustive)
            for name in ("deeplabv3_resnet50", "smp_deeplabv3plus_resnet50", "semseg_pspnet50")
        ),
    ],
)
@torch.inference_mode()
def test_the_same_network_in_3d_equals_it_slice_by_slice(name, recipe):
    flat = filled(recipe, name)
    picture = image(recipe, "65x97")
    expected = flat(picture)
    solid = NETWORKS[name].config.build(Task(3, 3, expected.shape[1])).eval()
    solid.load_state_dict(inflate(flat.state_dict(), solid), strict=True)
    logits = solid(picture[..., None].expand(-1, -1, -1, -1, 6))
    assert (logits - expected[..., None]).abs().amax() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("depth", [18, 34, 50])
@torch.inference_mode()
def test_resnet_equals_torchvisions(depth, recipe):
    name = f"resnet{depth}"
    state = recipe.state_dict(name)
    renamed = KEY_TABLES["torchvision_resnet"].rename(state)
    assert renamed.dropped == ("fc.weight", "fc.bias")
    network = ResNetConfig(depth=depth).build(2, 3).eval()
    network.load_state_dict(renamed.state, strict=True)
    features = network(image(recipe, "65x97"))
    outputs = {f"65x97/layer{stage}": features[stage].numpy() for stage in (1, 2, 3, 4)}
    outputs["65x97/stem"] = network.maxpool(features[0]).numpy()
    pooled = features[-1].mean(dim=(2, 3))
    outputs["65x97/logits"] = F.linear(pooled, state["fc.weight"], state["fc.bias"]).numpy()
    assert set(recipe.check(name, outputs)) == set(recipe.manifest()[name]["outputs"])


@pytest.mark.slow
@torch.inference_mode()
def test_vgg_equals_torchvisions(recipe):
    state = recipe.state_dict("vgg16")
    network = VGGConfig().build(2, 3).eval()
    network.load_state_dict(KEY_TABLES["torchvision_vgg"].rename(state).state, strict=True)
    features = network(image(recipe, "65x97"))
    outputs = {f"65x97/pool{i + 1}": network.pooled(i, features[i]).numpy() for i in range(5)}
    x = F.adaptive_avg_pool2d(network(image(recipe, "224x224"))[-1], 7).flatten(1)
    for layer in (0, 3, 6):
        x = F.linear(x, state[f"classifier.{layer}.weight"], state[f"classifier.{layer}.bias"])
        x = x if layer == 6 else x.relu()
    outputs["224x224/logits"] = x.numpy()
    assert set(recipe.check("vgg16", outputs)) == set(recipe.manifest()["vgg16"]["outputs"])


@pytest.mark.parametrize(
    ("name", "config", "dropped"),
    [
        ("resnet101", ResNetConfig(depth=101), "fc."),
        ("resnet152", ResNetConfig(depth=152), "fc."),
        ("resnext50_32x4d", ResNetConfig(groups=32, group_width=4), "fc."),
        ("wide_resnet50_2", ResNetConfig(group_width=128), "fc."),
        ("vgg16_bn", VGGConfig(norm="batch"), "classifier."),
    ],
)
def test_backbone_has_the_published_keys_and_shapes(name, config, dropped, recipe):
    expected = [(key, shape) for key, shape in recipe.keys(name) if not key.startswith(dropped)]
    state = config.build(2, 3).state_dict()
    assert [(key, tuple(tensor.shape)) for key, tensor in state.items()] == expected


@pytest.mark.slow
@torch.inference_mode()
def test_vgg_classifier_becomes_the_fcns_fully_connected_layers(recipe):
    # on a 7 x 7 map of features, fc6 and fc7 give what the classifier's first two layers give
    state = recipe.state_dict("vgg16")
    renamed = KEY_TABLES["vgg_to_fcn"].rename(state)
    assert renamed.reshaped == ("head.fc6.weight", "head.fc7.weight")
    network = FCNVGGConfig(backbone=VGGConfig(), padding="original").build(Task(2, 3, 21)).eval()
    missing, unexpected = network.load_state_dict(renamed.state, strict=False)
    assert not unexpected
    assert all(key.startswith(("score.", "upscore.")) for key in missing)
    features = torch.randn(1, 512, 7, 7, generator=torch.Generator().manual_seed(0))
    x = features.flatten(1)
    for layer in (0, 3):
        x = F.linear(x, state[f"classifier.{layer}.weight"], state[f"classifier.{layer}.bias"]).relu()
    torch.testing.assert_close(network.head(features).flatten(1), x, atol=1e-4, rtol=1e-4)
