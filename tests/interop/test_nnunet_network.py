"""Networks under nnU-Net's names, computing what medseg's own U-Net computes."""

from pathlib import Path

import pytest
import torch
from nnunet_recipe import architecture, configuration

from medseg.errors import ModelFileError
from medseg.interop.nnunet.architecture import read_architecture
from medseg.interop.nnunet.network import NnunetUNet
from medseg.models import UNetConfig
from medseg.task import Task

WHERE = Path("plans.json")


def network(dims: int, kind: str = "plain", **arguments: object) -> NnunetUNet:
    block = architecture(dims, kind, (4, 6, 8))
    block["arch_kwargs"] |= arguments
    config = read_architecture({"architecture": block}, dims, batch_norm=False, where=WHERE)
    torch.manual_seed(0)
    return NnunetUNet(config, 2, 3).eval()


def test_names_of_the_plain_network():
    names = set(network(3).state_dict())
    assert {
        "encoder.stages.0.0.convs.0.conv.weight",
        "encoder.stages.2.0.convs.0.norm.bias",
        "decoder.stages.1.convs.0.conv.bias",
        "decoder.transpconvs.0.weight",
        "decoder.seg_layers.1.bias",
    } <= names
    # 3 encoder and 2 decoder units of 4 tensors, 2 transposed convolutions and 2 heads of 2
    assert len(names) == 5 * 4 + 2 * 2 + 2 * 2


def test_names_of_the_residual_network():
    names = set(network(2, "residual").state_dict())
    skips = {name for name in names if ".skip." in name}
    # the first stage keeps 4 channels and its size; the others pool, then project without bias
    assert skips == {
        f"encoder.stages.{s}.blocks.0.skip.1.{part}"
        for s in (1, 2)
        for part in ("conv.weight", "norm.weight", "norm.bias")
    }
    assert {"encoder.stem.convs.0.conv.weight", "encoder.stages.1.blocks.0.conv2.norm.weight"} <= names


@pytest.mark.parametrize("dims", [2, 3])
def test_the_plain_network_is_medsegs_u_net(dims):
    theirs = network(dims)
    config = UNetConfig(channels=(4, 6, 8), convs_per_level=1)
    ours = config.build(Task(2 if dims == 2 else 3, 2, 3)).eval()
    given = theirs.state_dict()
    state = {}
    for level in range(3):
        for part in ("conv.weight", "norm.weight", "norm.bias"):
            state[f"encoder.{level}.0.{part}"] = given[f"encoder.stages.{level}.0.convs.0.{part}"]
    for level in range(2):  # nnU-Net counts decoder stages from the coarsest
        for part in ("conv.weight", "norm.weight", "norm.bias"):
            state[f"decoder.{level}.stack.0.{part}"] = given[f"decoder.stages.{1 - level}.convs.0.{part}"]
        for part in ("weight", "bias"):
            state[f"decoder.{level}.up.{part}"] = given[f"decoder.transpconvs.{1 - level}.{part}"]
    for part in ("weight", "bias"):
        state[f"head.{part}"] = given[f"decoder.seg_layers.1.{part}"]
    ours.load_state_dict(state)
    image = torch.randn(1, 2, *[16] * dims)
    with torch.no_grad():  # an instance norm takes a convolution's bias away again
        assert torch.allclose(theirs(image), ours(image), atol=1e-5)


def test_a_residual_block_pools_its_shortcut():
    block = network(2, "residual").encoder.stages[1].blocks[0]
    image = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        shortcut = block.skip[1](torch.nn.functional.avg_pool2d(image, 2))
        expected = torch.nn.functional.leaky_relu(block.conv2(block.conv1(image)) + shortcut, 0.01)
        assert torch.equal(block(image), expected)


def test_batch_norm_and_the_order_of_activation():
    found = network(2, norm_op="torch.nn.BatchNorm2d", norm_op_kwargs=None, nonlin_first=True)
    unit = found.encoder.stages[0][0].convs[0]
    assert unit.order == ["conv", "nonlin", "norm"]
    assert "encoder.stages.0.0.convs.0.norm.running_mean" in found.state_dict()


def test_the_form_of_old_releases():
    new = configuration()
    new["architecture"] = architecture(features=(4, 6, 6))
    old = {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 6,
        "n_conv_per_stage_encoder": [1, 1, 1],
        "n_conv_per_stage_decoder": [1, 1],
        "conv_kernel_sizes": [[3, 3, 3]] * 3,
        "pool_op_kernel_sizes": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
    }
    found = read_architecture(old, 3, batch_norm=False, where=WHERE)
    assert found == read_architecture(new, 3, batch_norm=False, where=WHERE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm_op": "torch.nn.GroupNorm"}, "torch.nn.GroupNorm is not supported, only InstanceNorm2d"),
        ({"nonlin": "torch.nn.Mish"}, "torch.nn.Mish is not supported, only LeakyReLU, ReLU"),
        ({"nonlin_kwargs": {"what": 1}}, "options .*what"),
        ({"conv_op": "torch.nn.Conv2d"}, "conv_op torch.nn.Conv2d with a patch of 3 axes"),
        ({"squeeze_excitation": True}, "arch_kwargs.squeeze_excitation"),
        ({"strides": [1, 2]}, "3 stages of 3 axes"),
    ],
)
def test_unsupported_settings_raise(arguments, message):
    with pytest.raises(ModelFileError, match=message):
        network(3, **arguments)


def test_other_networks_are_refused():
    block = architecture()
    block["network_class_name"] = "dynamic_network_architectures.architectures.primus.Primus"
    with pytest.raises(ModelFileError, match="network class Primus is not supported, only PlainConvUNet, Res"):
        read_architecture({"architecture": block}, 3, batch_norm=False, where=WHERE)
