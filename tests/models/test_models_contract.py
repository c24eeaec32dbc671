"""Contract of the architectures: what every member of the union that can be built must do."""

import pytest
import torch
from architectures import CONFIGS, build, case, each_in_usual_dims, image
from pydantic import TypeAdapter

from medseg.losses import DeepSupervisionLoss, default_loss
from medseg.model_output import as_output
from medseg.models import ModelConfig, logits_of, parameter_count
from medseg.task import Task

configs = pytest.mark.parametrize("config", [case(c) for c in CONFIGS], ids=lambda c: c.name)
dims = pytest.mark.parametrize("spatial_dims", [2, 3])
usual = pytest.mark.parametrize(("config", "spatial_dims"), list(each_in_usual_dims()))


@usual
@pytest.mark.parametrize("side", [1, 2, 5, 16, 17])
@pytest.mark.parametrize("training", [False, True])
def test_logits_have_the_images_size_whatever_it_is(config, spatial_dims, side, training):
    network = build(config, spatial_dims).train(training)
    size = (side, *(9,) * (spatial_dims - 1))
    for shape in (size, (side,) * spatial_dims):
        result = network(image(*shape))
        assert logits_of(result).shape == (1, 3, *shape)
        assert logits_of(result).isfinite().all()
        assert training or isinstance(result, torch.Tensor)


@usual
@pytest.mark.parametrize("side", [1, 7, 16])
def test_gradients_reach_every_parameter(config, spatial_dims, side):
    network = build(config, spatial_dims)
    output = as_output(network(image(*(side,) * spatial_dims)))
    heads = [output.logits, *output.deep] + ([] if output.aux is None else [output.aux])
    torch.stack([logits.square().mean() for logits in heads]).sum().backward()
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert side == 1 or parameter.grad.any(), name


@configs
@dims
def test_the_default_loss_takes_what_it_returns_in_training(config, spatial_dims):
    network = build(config, spatial_dims)
    size = (17, 12, 9)[:spatial_dims]
    output = as_output(network(image(*size, batch=2)))
    target = torch.randint(3, (2, 1, *size), generator=torch.Generator().manual_seed(2))
    loss = DeepSupervisionLoss(default_loss().build(Task(spatial_dims, 2, 3)))
    assert loss(output, target).isfinite()
    has_more = bool(output.deep) or output.aux is not None
    assert (loss(output, target) != loss(output.logits, target)) == has_more


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "spatial_dims"), list(each_in_usual_dims(costly=("swin_unetr", "unetpp", "unetr", "vnet")))
)
def test_one_batch_can_be_overfitted(config, spatial_dims):
    network = build(config, spatial_dims, in_channels=1, num_classes=2)
    size = (16, 8, 8)[:spatial_dims]
    target = torch.zeros(1, *size, dtype=torch.long)
    target[:, :8] = 1
    picture = target[:, None] + 0.1 * image(*size, channels=1)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    while len(losses) < 40 and (not losses or losses[-1] > 0.3 * losses[0]):
        loss = torch.nn.functional.cross_entropy(logits_of(network(picture)), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] <= 0.3 * losses[0], losses


@configs
@dims
def test_evaluation_is_deterministic_and_survives_saving(config, spatial_dims, tmp_path):
    network = build(config, spatial_dims).eval()
    picture = image(*(10,) * spatial_dims)
    with torch.inference_mode():
        first = network(picture)
        assert torch.equal(network(picture), first)
        torch.save(network.state_dict(), tmp_path / "weights.pt")
        other = build(config, spatial_dims, seed=99).eval()
        assert not torch.equal(other(picture), first)
        other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
        assert torch.equal(other(picture), first)


@configs
@dims
def test_samples_of_a_batch_are_independent_in_evaluation(config, spatial_dims):
    network = build(config, spatial_dims).eval()
    pictures = image(*(16,) * spatial_dims, batch=2)
    with torch.inference_mode():
        alone = network(pictures[1:])
        together = network(pictures)[1:]
    torch.testing.assert_close(alone, together, atol=1e-4, rtol=1e-4)


@configs
@dims
def test_the_image_is_unchanged(config, spatial_dims):
    picture = image(*(16,) * spatial_dims)
    before = picture.clone()
    build(config, spatial_dims)(picture)
    assert torch.equal(picture, before)


@configs
@dims
def test_other_types_of_numbers(config, spatial_dims):
    network = build(config, spatial_dims).eval()
    picture = image(*(9,) * spatial_dims)
    with torch.inference_mode():
        with torch.autocast("cpu", torch.bfloat16):
            assert network(picture).isfinite().all()
        half = network.bfloat16()(picture.bfloat16())
    assert half.dtype == torch.bfloat16
    assert half.isfinite().all()


@configs
@dims
def test_bfloat16_and_channels_last_agree(config, spatial_dims):
    network = build(config, spatial_dims).eval()
    picture = image(*(16,) * spatial_dims)
    layout = torch.channels_last if spatial_dims == 2 else torch.channels_last_3d
    with torch.inference_mode():
        logits = network(picture)
        with torch.autocast("cpu", torch.bfloat16):
            half = network(picture).float()
        last = network.to(memory_format=layout)(picture.contiguous(memory_format=layout))
    spread = logits.std()
    assert (half - logits).abs().mean() < 0.1 * spread
    assert (last - logits).abs().amax() < 1e-3 * spread + 1e-5


@configs
@dims
def test_a_wrong_image_is_refused_with_its_shape(config, spatial_dims):
    network = build(config, spatial_dims)
    with pytest.raises(ValueError, match=r"C = 2.*\(1, 3, "):
        network(image(*(8,) * spatial_dims, channels=3))
    with pytest.raises(ValueError, match=f"{spatial_dims} spatial axes"):
        network(image(*(8,) * (5 - spatial_dims)))


@configs
def test_settings_survive_yaml(config):
    adapter = TypeAdapter(ModelConfig)
    assert adapter.validate_python(adapter.dump_python(config, mode="json")) == config


def test_parameters_are_counted_by_hand_and_frozen_ones_left_out():
    # a convolution of 2 → 3 channels, width 3: 2 * 3 * 9 weights and 3 biases
    module = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.Conv2d(3, 1, 1))
    module[1].requires_grad_(False)
    assert parameter_count(module) == 57
