"""The command that continues a run with its own settings, and what is printed about it."""

import shlex

import pytest
from conftest import ball_settings, write_balls

from medseg.cli.main import run
from medseg.config.schema import load_config
from medseg.errors import ConfigError, DataError
from medseg.planning.measured.dry_run import dry_run
from medseg.progress import QuietProgress
from medseg.training.fit import fit
from medseg.training.run_folder.layout import RunFolder


class Interrupted(QuietProgress):
    """Ends a training in its third update."""

    updates = 0

    def advance(self, detail=""):
        self.updates += detail.startswith("loss")
        if self.updates == 3:
            raise InterruptedError


@pytest.mark.slow
def test_the_command_continues_a_run_with_its_own_settings(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_balls(tmp_path / "data")
    settings = ball_settings("data", save_every_steps=1)  # a relative path
    with pytest.raises(InterruptedError):
        fit(load_config(settings), "my runs/a", progress=Interrupted())
    command = RunFolder(tmp_path / "my runs" / "a").resume_command
    assert command.endswith("--resume auto")
    monkeypatch.chdir("/")
    assert run(shlex.split(command)[1:]) == 0
    assert "continuing at update 2 of 8" in capsys.readouterr().err
    assert run(shlex.split(command)[1:]) == 0
    assert "already finished at update 8 of 8; train.epochs=… extends it" in capsys.readouterr().err
    messages = (tmp_path / "my runs" / "a" / "messages.log").read_text()
    assert "continuing at update 2 of 8" in messages
    other = load_config(settings, ["seed=1", f"data.path={tmp_path / 'data'}"])
    with pytest.raises(ConfigError, match="--resume auto") as caught:
        fit(other, tmp_path / "my runs" / "a", resume="auto")
    assert command in str(caught.value)


@pytest.mark.parametrize("start", [fit, dry_run])
def test_a_refused_start_leaves_no_folder(start, tmp_path):
    (tmp_path / "data" / "images").mkdir(parents=True)
    with pytest.raises(DataError):
        start(load_config(ball_settings(tmp_path / "data")), tmp_path / "runs" / "a")
    assert not (tmp_path / "runs" / "a").exists()


def test_only_empty_folders_are_removed(tmp_path):
    folder = RunFolder(tmp_path / "run")
    for name in ("cache/facts", "cache/cases", "checkpoints"):
        (folder.root / name).mkdir(parents=True)
    (folder.root / "cache" / "cases" / "a").write_text("kept")
    folder.remove_empty_folders()
    assert sorted(str(path.relative_to(folder.root)) for path in folder.root.rglob("*")) == [
        "cache", "cache/cases", "cache/cases/a",
    ]  # fmt: skip
