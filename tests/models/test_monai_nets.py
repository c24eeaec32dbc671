"""The wrappers of MONAI's networks: their checks, and the networks inside."""

import pytest
import torch

from medseg.errors import ConfigError
from medseg.model_output import Output
from medseg.models import (
    DynUNetConfig,
    MedNeXtConfig,
    SegResNetConfig,
    SwinUNETRConfig,
    UNETRConfig,
    VNetConfig,
    monai_nets,
)
from medseg.models.pretrained.key_mapping import KEY_TABLES
from medseg.task import Task


def test_a_missing_einops_raises(monkeypatch):
    monkeypatch.setattr(monai_nets, "find_spec", lambda name: None)
    for config in (SwinUNETRConfig(), UNETRConfig()):
        with pytest.raises(ConfigError, match=r"needs the package einops\. Run pip install einops"):
            config.build(Task(2, 1, 2))


@torch.inference_mode()
def test_sizes_that_fit_go_through_unpadded():
    network = SegResNetConfig(blocks_down=(1, 1, 1), blocks_up=(1, 1)).build(Task(2, 1, 2)).eval()
    picture = torch.randn(1, 1, 8, 12)
    assert torch.equal(network(picture), network.network(picture))


def test_dynunets_stacked_heads_are_taken_apart():
    network = DynUNetConfig(channels=(4, 8, 8, 8), deep_supervision=2).build(Task(2, 1, 3))
    output = network(torch.randn(2, 1, 16, 16))
    assert isinstance(output, Output)
    assert [deep.shape for deep in output.deep] == [(2, 3, 16, 16)] * 2


def test_dynunets_strides_may_differ_by_axis():
    config = DynUNetConfig(channels=(4, 8, 8), strides=(1, (2, 2, 1), 2))
    assert config.build(Task(3, 1, 2)).divisor == (4, 4, 2)
    with pytest.raises(ConfigError, match="3 numbers, but the task has 2 spatial axes"):
        config.build(Task(2, 1, 2))


def test_mednexts_coarser_logits_keep_their_size():
    config = MedNeXtConfig(
        channels=4, blocks=(1, 1), expansion=(2, 2), bottleneck_blocks=1, deep_supervision=True
    )
    output = config.build(Task(2, 1, 2))(torch.randn(1, 1, 16, 16))
    assert [deep.shape[2] for deep in output.deep] == [8, 4]


@pytest.mark.parametrize(
    "config",
    [
        SegResNetConfig(),
        DynUNetConfig(channels=(4, 8, 8)),
        VNetConfig(),
        MedNeXtConfig(channels=4, blocks=(1, 1), expansion=(2, 2), bottleneck_blocks=1),
    ],
    ids=lambda config: config.name,
)
def test_monais_own_weights_load_strictly(config):
    task = Task(2, 1, 2)
    monais = config.build(task).network.state_dict()
    network = config.build(task)
    network.load_state_dict(KEY_TABLES["monai"].rename(monais).state, strict=True)
    assert all(torch.equal(network.network.state_dict()[key], tensor) for key, tensor in monais.items())


def test_vnet_names_the_channels_it_takes():
    with pytest.raises(ConfigError, match="1, 2, 4, 8 or 16 image channels; got 3"):
        VNetConfig().build(Task(2, 3, 2))


def test_unetr_refuses_larger_images():
    pytest.importorskip("einops")
    network = UNETRConfig(image_size=(32, 16), channels=4, hidden=24, mlp=24, heads=2).build(Task(2, 1, 2))
    with pytest.raises(ValueError, match=r"built for images of size \(32, 16\), got \(33, 16\)"):
        network(torch.zeros(1, 1, 33, 16))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SegResNetConfig(blocks_up=(1, 1)), "blocks_up one entry fewer"),
        (lambda: SegResNetConfig(channels=12), "groups is 8, which does not divide channels 12"),
        (lambda: DynUNetConfig(strides=(1, 2, 2)), "strides has 3 entries, channels has 5 levels"),
        (lambda: DynUNetConfig(channels=(4, 8, 8), deep_supervision=2), "have room for 1 extra heads"),
        (lambda: MedNeXtConfig(kernel=4), "kernel is 4; it must be odd"),
        (lambda: MedNeXtConfig(expansion=(2, 2)), "expansion has 2 entries, blocks 4"),
        (lambda: UNETRConfig(image_size=(32, 40)), "give multiples of 16"),
        (lambda: UNETRConfig(heads=7), "heads is 7, which does not divide hidden 768"),
    ],
)
def test_settings_that_contradict_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
