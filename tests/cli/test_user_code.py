"""``--network`` and ``--loss``: the user's own code on the command line."""

import sys
from pathlib import Path

import pytest
from conftest import ball_settings
from torch import nn

from medseg.cli.main import run as command
from medseg.cli.user_code import load_loss
from medseg.config.schema import load_config, to_yaml
from medseg.planning import plan
from medseg.training.extensions import Extensions
from medseg.training.run_folder.layout import RunFolder

CODE = """
from torch import nn

NUMBER = 3

class Net(nn.Conv3d):
    def __init__(self, in_channels, num_classes):
        super().__init__(in_channels, num_classes, 1)

def greedy(in_channels, depth):
    pass

def loss(logits, target):
    return (logits - target).square().mean()

class Loss:
    def __call__(self, logits, target):
        return logits.square().mean()

def lonely(logits):
    return logits.sum()
"""


@pytest.fixture
def lab(balls, tmp_path, monkeypatch):
    """A working directory with a configuration and modules."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    settings = ball_settings(balls, epochs=1, iterations=1)
    (tmp_path / "c.yaml").write_text(to_yaml(load_config(settings)))
    (tmp_path / "labcode.py").write_text(CODE)
    (tmp_path / "labbroken.py").write_text("1 / 0")
    (tmp_path / "labneeds.py").write_text("import no_such_package")
    yield tmp_path
    for name in ("labcode", "labbroken", "labneeds"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("loss", ["labcode:loss", "labcode:Loss"])
def test_network_and_loss_of_the_working_directory(lab, loss, capsys):
    assert command(["train", "c.yaml", "--run", "run", "--network", "labcode:Net", "--loss", loss]) == 0
    recorded = load_config(lab / "run" / "config.yaml")
    assert recorded.model.class_name == "labcode:Net"
    assert "model: run" in capsys.readouterr().out
    repeated = RunFolder(Path("run")).resume_command
    assert repeated.endswith(f"--resume auto --network labcode:Net --loss {loss}")
    assert command(repeated.split()[1:]) == 0
    assert command(["infer", "--model", "run", "c.yaml", "--output", "out"]) == 2
    assert "custom network labcode:Net" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("workers", [[], pytest.param(["--workers", "1"], marks=pytest.mark.slow)])
def test_a_model_with_its_own_network_segments(lab, balls, workers):
    assert command(["train", "c.yaml", "--run", "run", "--network", "labcode:Net"]) == 0
    given = ["--model", "run", "--network", "labcode:Net", "--device", "cpu", *workers]
    assert command(["infer", *given, "--cases", "val", "--output", "out"]) == 0
    assert len(list((lab / "out").glob("*.nii.gz"))) == 1
    assert command(["tune", "run", "--network", "labcode:Net"]) == 0
    assert command(["infer", "--model", "run", "--network", "labcode:greedy", "c.yaml", "--output", "out"]) == 2


def test_a_loss_that_is_a_module_keeps_its_name(lab):
    (lab / "labcode.py").write_text("from torch import nn\n\nclass Loss(nn.MSELoss):\n    pass\n")
    loss = load_loss("labcode:Loss")
    assert isinstance(loss, nn.MSELoss)
    assert Extensions.of({"loss": loss}).names() == {"loss": "labcode:Loss"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--network", "labcode"], "--network labcode: expected module:name"),
        (["--network", "nowhere:Net"], "--network nowhere:Net: there is no module 'nowhere'"),
        (["--network", "labcode:net"], "labcode has no 'net'\nhint: Did you mean Net?"),
        (["--network", "labcode:NUMBER"], "is of type int; expected a class or function"),
        (["--network", "labcode:greedy"], "--network labcode:greedy: requires depth"),
        (["--network", "labbroken:Net"], "labbroken cannot be imported: ZeroDivisionError: division by zero"),
        (["--network", "labneeds:Net"], "labneeds cannot be imported: No module named 'no_such_package'"),
        (["--loss", "labcode:lonely"], "cannot be called with logits and target: too many positional"),
        (["--loss", "labcode:Net"], "--loss labcode:Net: cannot be called without arguments"),
    ],
)
def test_errors_name_the_option_and_what_is_wrong(lab, options, message, capsys):
    assert command(["train", "c.yaml", "--run", "run", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (lab / "run").exists()


def test_a_file_cannot_name_code(lab, capsys):
    assert command(["train", "c.yaml", "--run", "run", "loss={name: custom, function: labcode:loss}"]) == 2
    assert "cannot be built from a file" in capsys.readouterr().err


def test_a_resumed_run_of_a_folder_keeps_its_plan(balls, lab, monkeypatch):
    def measure_again(*_):
        raise AssertionError("the run has settings")

    monkeypatch.setattr(plan, "plan_config", measure_again)
    run = lab / "run"
    assert command(["train", "c.yaml", "--run", str(run)]) == 0
    assert command(["train", str(balls), "--run", str(run), "--resume", "auto"]) == 0
