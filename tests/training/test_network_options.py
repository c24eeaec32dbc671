import pytest
import torch
from conftest import ball_settings
from torch import nn

from medseg.config.schema import load_config
from medseg.inference.model.model_file import load_model
from medseg.models import UNetConfig
from medseg.task import Task
from medseg.training import network_options
from medseg.training.fit import fit
from medseg.training.network_options import checkpoint_stages, compile_network, frozen_norms


def gradients(network, image):
    network.zero_grad()
    network(image).square().mean().backward()
    return [parameter.grad.clone() for parameter in network.parameters()]


def test_checkpointing_keeps_the_gradients_and_recomputes_each_stage():
    torch.manual_seed(0)
    network = UNetConfig(channels=(4, 8, 8)).build(Task(2, 1, 2)).train()
    image = torch.rand(2, 1, 16, 16)
    before = gradients(network, image)
    assert checkpoint_stages(network) == 5  # 3 levels of the encoder, 2 of the decoder
    calls = []
    network.encoder[1].register_forward_pre_hook(lambda *_: calls.append("call"))
    first = next(module for module in network.encoder[1].modules() if isinstance(module, nn.Conv2d))
    first.register_forward_pre_hook(lambda *_: calls.append("convolution"))
    after = gradients(network, image)
    assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True))
    assert calls.count("convolution") == 2
    calls.clear()
    with torch.no_grad():
        network(image)
    assert calls.count("convolution") == 1


def test_stages_with_batch_norm_are_not_computed_again():
    network = UNetConfig(channels=(4, 8, 8), norm="batch").build(Task(2, 1, 2))
    assert checkpoint_stages(network) == 0


def test_a_training_with_checkpointing_gives_the_same_weights(balls, tmp_path):
    for name, value in (("plain", False), ("again", True)):
        settings = ball_settings(balls, epochs=1, iterations=2, gradient_checkpointing=value)
        fit(load_config(settings), tmp_path / name)
    one, two = (load_model(tmp_path / name / "model.safetensors")[1] for name in ("plain", "again"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_compiling_falls_back_with_a_message(monkeypatch, caplog):
    def broken(function):
        raise RuntimeError("no C++ compiler\nsecond line")

    monkeypatch.setattr(network_options.torch, "compile", broken)
    network = nn.Conv2d(1, 1, 1)
    assert not compile_network(network, torch.device("cpu"))
    assert "torch.compile does not work here (no C++ compiler)" in caplog.text
    assert network(torch.ones(1, 1, 1, 1)).shape == (1, 1, 1, 1)


@pytest.mark.slow
def test_a_compiled_training_has_the_names_and_about_the_weights_of_a_plain_one(balls, tmp_path):
    for name, value in (("plain", False), ("compiled", True)):
        settings = ball_settings(balls, epochs=1, iterations=2, compile=value)
        fit(load_config(settings, ["model.dropout=0"]), tmp_path / name)
    one, two = (load_model(tmp_path / name / "model.safetensors")[1] for name in ("plain", "compiled"))
    assert one.keys() == two.keys()
    assert all(torch.allclose(one[key], two[key], atol=1e-3) for key in one)


def test_batch_norms_of_frozen_parts():
    network = nn.Sequential()
    network.backbone = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    network.head = nn.Sequential(nn.BatchNorm2d(2), nn.InstanceNorm2d(2))
    assert frozen_norms(network, ("backbone.",)) == [network.backbone[1]]
    assert frozen_norms(network, ()) == []


def test_running_statistics_of_a_frozen_part_stay(balls, tmp_path):
    settings = ball_settings(balls, epochs=1, iterations=2)
    settings["model"] |= {"norm": "batch"}
    config = load_config(settings, ["weights.freeze=[encoder.]"])
    fit(config, tmp_path / "run")
    weights = load_model(tmp_path / "run" / "model.safetensors")[1]
    means = {key: tensor for key, tensor in weights.items() if key.endswith("running_mean")}
    assert all(not tensor.any() for key, tensor in means.items() if key.startswith("encoder."))
    assert any(tensor.any() for key, tensor in means.items() if key.startswith("decoder."))
