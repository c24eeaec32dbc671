import pytest
import torch
from architectures import CONFIGS, build, case, image

from medseg.errors import ConfigError
from medseg.models import FCNConfig, UNetConfig, UNetValidConfig
from medseg.models.backbones import ResNetConfig
from medseg.models.inspection.feature_hooks import collect_features, main_parts
from medseg.task import Task


def shapes(network, *layers, size=(16, 16)):
    with collect_features(network.eval(), lambda _, x: tuple(x.shape[1:]), layers) as found, torch.no_grad():
        network(torch.zeros(1, 1, *size))
    return found


def test_the_stages_of_a_unet_in_the_order_they_run():
    network = UNetConfig(channels=(4, 6, 8), attention=True).build(Task(2, 1, 2))
    assert main_parts(network) == ["encoder.0", "encoder.1", "encoder.2", "decoder.0", "decoder.1", "head"]
    assert shapes(network) == {
        "encoder.0": (4, 16, 16),
        "encoder.1": (6, 8, 8),
        "encoder.2": (8, 4, 4),
        "decoder.1": (6, 8, 8),
        "decoder.0": (4, 16, 16),
        "head": (2, 16, 16),
    }
    assert list(shapes(network, "decoder.0.gate")) == ["decoder.0.gate"]


def test_several_maps_of_one_part_are_numbered():
    config = FCNConfig(backbone=ResNetConfig(depth=18, width=0.125), output_stride=None, auxiliary=True)
    network = config.build(Task(2, 1, 2))
    found = shapes(network, size=(64, 64))
    assert list(found) == [*(f"backbone[{i}]" for i in range(5)), "classifier"]
    assert found["backbone[4]"] == (64, 2, 2)
    assert list(shapes(network, "backbone[2]", "backbone.layer1.1")) == ["backbone.layer1.1", "backbone[2]"]
    assert shapes(network, "aux_classifier") == {}


def test_collected_features_are_not_changed_in_place():
    network = UNetValidConfig(channels=(2, 2), dropout=0).build(Task(2, 1, 2))
    with collect_features(network.eval(), lambda _, x: x.clone(), ["encoder.0.0"]) as found, torch.no_grad():
        network(torch.randn(1, 1, 8, 8))
    assert found["encoder.0.0"].min() < 0  # the rectifier after it works in place


def test_an_unknown_name_is_refused_with_near_ones_and_leaves_no_hooks():
    network = UNetConfig(channels=(4, 8)).build(Task(2, 1, 2))
    with pytest.raises(ConfigError, match=r"'encodr\.1'; similar names: encoder\.1"):
        shapes(network, "encoder.0", "encodr.1")
    with pytest.raises(ConfigError, match=r"'zzz'; its main parts: encoder\.0, "):
        shapes(network, "zzz")
    shapes(network)
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("config", [case(c) for c in CONFIGS], ids=lambda c: c.name)
def test_every_architecture_has_stages(config):
    network = build(config, 2).eval()
    with collect_features(network, lambda _, x: x.ndim) as found, torch.no_grad():
        network(image(32, 32))
    assert sum(ndim == 4 for ndim in found.values()) >= 2, found
