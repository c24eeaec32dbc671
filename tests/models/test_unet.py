import itertools

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from medseg.errors import ConfigError
from medseg.losses import CrossEntropyLoss, DeepSupervisionLoss
from medseg.models import Output, UNetConfig, parameter_count
from medseg.models.layers.upsampling import upsampling_head
from medseg.models.unet import UNet
from medseg.task import Task

TASK2, TASK3 = Task(2, 1, 2), Task(3, 1, 2)


def tiny(**settings):
    return UNetConfig(**{"channels": (4, 8, 8), "convs_per_level": 1, **settings})


OPTIONS = list(
    itertools.product(
        [TASK2, TASK3],
        ["transposed", "linear"],
        ["conv", "maxpool"],
        ["concat", "add", "none"],
        ["instance", "batch", "group"],
        [False, True],
    )
)


@pytest.mark.parametrize(("task", "up", "down", "skip", "norm", "residual"), OPTIONS)
def test_every_combination_of_options_trains_and_predicts(task, up, down, skip, norm, residual):
    config = tiny(up=up, down=down, skip=skip, norm=norm, norm_groups=4, residual=residual)
    network = config.build(task)
    image = torch.randn(1, 1, *(6,) * task.spatial_dims)
    logits = network(image)
    logits.square().mean().backward()
    assert logits.shape == (1, 2, *image.shape[2:])
    unused = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert not unused
    assert network.eval()(image).isfinite().all()


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "prelu", "elu", "gelu", "silu"])
def test_every_activation(activation):
    network = tiny(activation=activation, residual=True, dropout=0.2).build(TASK2)
    network(torch.randn(2, 1, 9, 9)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("norm", ["instance", "batch", "group"])
@pytest.mark.parametrize("side", [1, 4])
def test_a_bottleneck_of_one_voxel_trains(norm, side):
    # total stride 4: one voxel would be left, of which torch's norms take no variance
    network = tiny(norm=norm, norm_groups=8, channels=(8, 8, 8)).build(TASK3)
    logits = network(torch.randn(1, 1, side, side, side))
    logits.sum().backward()
    assert logits.shape[2:] == (side, side, side)
    assert all(buffer.isfinite().all() for buffer in network.buffers())


def test_parameters_by_hand():
    # 2D, channels (4, 8), one convolution a level, no bias under a norm (two parameters a channel):
    # encoder 1*4*9 + 8 = 44 and 4*8*9 + 16 = 304; up 8*4*4 + 4 = 132; decoder 8*4*9 + 8 = 296; head 4*2 + 2
    network = tiny(channels=(4, 8)).build(TASK2)
    assert parameter_count(network) == 44 + 304 + 132 + 296 + 10


def test_anisotropic_levels_keep_their_axis():
    config = tiny(stride=(1, (1, 2, 2), 2), kernel=((1, 3, 3), 3, 3), deep_supervision=1)
    assert config.strides(3) == [(1, 1, 1), (1, 2, 2), (2, 2, 2)]
    assert config.kernels(3)[0] == (1, 3, 3)
    assert config.size_divisor(3) == (2, 4, 4)
    output = config.build(TASK3)(torch.randn(1, 1, 4, 8, 8))
    assert [tuple(deep.shape) for deep in output.deep] == [(1, 2, 4, 4, 4)]


def test_a_strided_first_level_still_gives_full_size_logits():
    network = tiny(stride=(2, 2, 2), deep_supervision=1).build(TASK2)
    assert network.size_divisor == (8, 8)
    output = network(torch.randn(1, 1, 16, 24))
    assert output.logits.shape == (1, 2, 16, 24)
    assert output.deep[0].shape == (1, 2, 4, 6)


def test_numbers_of_convolutions_may_differ_by_level():
    network = tiny(convs_per_level=(1, 2, 3), decoder_convs=(2, 1)).build(TASK2)
    assert [len(level) for level in network.encoder] == [1, 2, 3]
    assert [len(level.stack) for level in network.decoder] == [2, 1]
    assert tiny(convs_per_level=(1, 2, 3)).decoder_counts() == (1, 2)


def test_deep_outputs_come_in_training_only_and_at_their_own_size():
    network = UNetConfig(channels=(4, 4, 4, 4), convs_per_level=1, deep_supervision=2).build(TASK2)
    image = torch.randn(1, 1, 16, 32)
    output = network(image)
    assert isinstance(output, Output)
    assert [tuple(deep.shape[2:]) for deep in output.deep] == [(8, 16), (4, 8)]
    assert isinstance(network.eval()(image), torch.Tensor)
    assert isinstance(tiny().build(TASK2)(image), torch.Tensor)


def test_deep_outputs_of_a_padded_image_still_lie_over_the_target():
    # 18 is padded to 20 (total stride 4); level 1 has stride 2, which divides 18: cropped to 9.
    # 17 is not divided by it: interpolated to the full size
    network = tiny(deep_supervision=1).build(TASK2)
    assert network(torch.randn(1, 1, 18, 18)).deep[0].shape[2:] == (9, 9)
    assert network(torch.randn(1, 1, 17, 18)).deep[0].shape[2:] == (17, 18)


@pytest.mark.parametrize("size", [(16, 16), (18, 18), (17, 19), (1, 3)])
def test_a_padded_deep_output_is_aligned_with_the_image(size):
    # a head that copies one channel of the coordinates' image: deep logits are the place of their voxel
    network = tiny(deep_supervision=1).build(TASK2)
    rows = torch.arange(40.0).view(1, 1, -1, 1).expand(1, 4, 40, 40)
    padded = [length + -length % 4 for length in size]
    features = [
        rows[..., : padded[0], : padded[1]],
        rows[..., ::2, ::2][..., : padded[0] // 2, : padded[1] // 2],
    ]
    network.deep_heads[0] = nn.Conv2d(4, 2, 1, bias=False)
    nn.init.constant_(network.deep_heads[0].weight, 0.25)
    head_logits = network.deep_heads[0](features[1])
    (deep,) = network.fit_deep_logits((head_logits,), tuple(padded), size)
    step = size[0] / deep.shape[2]
    places = (torch.arange(deep.shape[2]) + 0.5) * step - 0.5
    assert (deep[0, 0, :, 0] - places).abs().max() <= 1


@pytest.mark.parametrize("side", [16, 17, 5, 1])
def test_deep_supervision_learns_from_any_size(side):
    network = tiny(deep_supervision=1).build(TASK2)
    target = torch.randint(0, 2, (1, 1, side, side))
    loss = DeepSupervisionLoss(CrossEntropyLoss())(network(torch.randn(1, 1, side, side)), target)
    loss.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_padding_is_the_same_as_padding_by_hand():
    network = tiny().build(TASK2).eval()
    image = torch.randn(1, 1, 13, 16)
    by_hand = torch.nn.functional.pad(image, (0, 0, 0, 3), mode="replicate")
    torch.testing.assert_close(network(image), network(by_hand)[:, :, :13])


def test_skips_matter_only_where_there_are_some():
    torch.manual_seed(0)
    for skip in ("concat", "add", "none"):
        level = tiny(skip=skip).build(TASK2).eval().decoder[0]
        below, encoded = torch.randn(1, 8, 4, 4), torch.randn(1, 4, 8, 8)
        same = torch.equal(level(below, encoded), level(below, encoded.roll(1, 2)))
        assert same == (skip == "none")


def test_weights_start_he_normal_and_biases_at_zero():
    torch.manual_seed(0)
    network = UNetConfig(channels=(32, 64)).build(TASK2)
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]
    assert all(conv.bias is None or not conv.bias.any() for conv in convs)
    # encoder.1's second convolution: fan-in 64 * 9, gain² = 2 / (1 + 0.01²)
    weight = network.encoder[1][1].conv.weight
    assert weight.std().item() == pytest.approx((2 / 1.0001 / 576) ** 0.5, rel=0.02)


def test_dropout_acts_in_training_only():
    network = tiny(dropout=0.5).build(TASK2)
    image = torch.randn(1, 1, 16, 16)
    assert not torch.equal(network(image), network(image))
    network.eval()
    assert torch.equal(network(image), network(image))


def test_residual_is_the_sum_of_its_two_paths():
    level = tiny(residual=True).build(TASK2).eval().encoder[1]
    x = torch.randn(1, 4, 8, 8)
    torch.testing.assert_close(level(x), nn.functional.leaky_relu(level.body(x) + level.shortcut(x), 0.01))


def test_names_of_parameters():
    names = [name for name, _ in tiny(deep_supervision=1).build(TASK2).named_parameters()]
    for name in (
        "encoder.0.0.conv.weight",
        "decoder.0.up.weight",
        "decoder.1.stack.0.norm.bias",
        "head.weight",
        "deep_heads.0.bias",
    ):
        assert name in names


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": (8,)}, "at least 2"),
        ({"channels": (8, 0)}, "greater than 0"),
        (
            {"stride": (1, 2)},
            "stride has 2 entries, but channels has 3 levels: give 3 entries, or one number",
        ),
        ({"kernel": (3, 3, 3, 3)}, "kernel has 4 entries"),
        ({"kernel": 2}, "widths must be odd"),
        ({"kernel": (3, (1, 4, 4), 3)}, "kernel of level 1"),
        ({"convs_per_level": (1, 1)}, "convs_per_level has 2 entries"),
        ({"decoder_convs": (1, 1, 1)}, "give 2 entries .the lowest level has no decoder."),
        ({"deep_supervision": 2}, "room for 1 extra heads"),
        ({"norm": "group", "norm_groups": 3}, "does not divide channels"),
        ({"dropout": 1.0}, "less than 1"),
        ({"width": 3}, "Extra inputs"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        tiny(**settings)


@pytest.mark.parametrize("field", ["kernel", "stride"])
def test_axes_must_be_those_of_the_task(field):
    config = tiny(**{field: (1, (1, 3, 3), 1)})
    config.build(TASK3)
    with pytest.raises(ConfigError, match=rf"model\.{field} of level 1 is .*3 numbers.* 2 spatial axes"):
        config.build(TASK2)


def test_defaults_build_five_levels():
    config = UNetConfig()
    assert config.size_divisor(3) == (16, 16, 16)
    assert isinstance(config.build(TASK2), UNet)
    assert TypeAdapter(UNetConfig).json_schema()["properties"]["name"]["const"] == "unet"


def test_logits_between_the_voxels_of_a_strided_level_begin_as_interpolation():
    images = torch.randn(1, 1, 12, 16, generator=torch.Generator().manual_seed(0))
    linear, learned = (
        tiny(stride=(2, 2, 2), head_up=up).build(TASK2).eval() for up in ("linear", "transposed")
    )
    weights = learned.state_dict()
    weights |= {name: one for name, one in linear.state_dict().items() if not name.startswith("head")}
    learned.load_state_dict(weights)
    learned.head = upsampling_head(linear.head, (2, 2))
    inner = (..., slice(1, -1), slice(1, -1))
    assert torch.allclose(learned(images)[inner], linear(images)[inner], atol=1e-5)
