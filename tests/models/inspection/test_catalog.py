import pytest

from medseg.cli.main import run
from medseg.models import UNetConfig
from medseg.models.inspection.catalog import architecture_configs, layer_shapes, markdown_table


def test_shapes_level_by_level():
    found = layer_shapes(UNetConfig(channels=(4, 8)), (16, 16), channels=3, classes=5, depth=3)
    assert found[-1].shape == (5, 16, 16)
    assert any(level.shape == (8, 8, 8) for level in found)
    assert layer_shapes(UNetConfig(channels=(4, 8)), (16, 16, 16), depth=1)[-1].shape[1:] == (16, 16, 16)


def test_the_commands(capsys):
    assert run(["models", "show", "deeplabv3", "output_stride=8", "--size", "64x64", "--depth", "1"]) == 0
    out = capsys.readouterr().out
    assert "2048×8×8" in out
    assert out.splitlines()[-1] == "receptive field all, output stride 8"
    assert run(["models", "show", "unet_valid", "--size", "32x32x32", "channels=[4, 8]"]) == 0
    # one level below: 5, 6 at stride 2: + 8 = 14, and two 3x3 see three positions of that stride: 18
    assert capsys.readouterr().out.splitlines()[-1] == "receptive field 18, output stride 2"
    assert run(["models", "show", "unet", "--size", "64"]) == 2
    assert "expected HxW or XxYxZ" in capsys.readouterr().err
    assert run(["models", "show", "nothing"]) == 2


@pytest.mark.slow
def test_the_list_shows_each_receptive_field(capsys):
    assert run(["models", "list"]) == 0
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert lines["name"][4:6] == ["field", "stride"]
    assert lines["unet_valid"][4:6] == ["188–204", "16"]
    assert lines["pspnet"][4:6] == ["all", "8"]


def test_the_page_lists_what_it_is_given():
    assert "| `model.name` |" in markdown_table([])
    assert len(architecture_configs()) >= 19
