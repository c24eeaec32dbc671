import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ball_settings, write_balls, write_volume
from lock_holder import locked
from torch import nn

from medseg.cli.main import run as command
from medseg.config.schema import load_config, to_yaml
from medseg.errors import ConfigError, DataError, DiskFullError, ModelFileError, TrainingError
from medseg.inference.model.model_file import load_model
from medseg.inference.model.predictor import Predictor
from medseg.planning.measured.dry_run import dry_run
from medseg.progress import QuietProgress
from medseg.study.sweep import read_sweep, run_sweep
from medseg.system.locks import LOCK_NAME
from medseg.training.fit import RunResult, fit
from medseg.training.loop import TrainingLoop
from medseg.training.run_folder.checkpoint import load_checkpoint
from medseg.training.run_folder.log import read_log


def weights(run: Path) -> str:
    return load_model(run / "model.safetensors")[2]


@pytest.fixture(scope="module")
def finished(balls, tmp_path_factory) -> RunResult:
    """A finished run of ``ball_config``, which tests do not change."""
    return fit(load_config(ball_settings(balls)), tmp_path_factory.mktemp("finished") / "run")


RESUMED = {"save_every_steps": 1, "ema": 0.9, "schedule": {"name": "plateau", "patience": 1}}


@pytest.fixture(scope="module")
def whole(balls, tmp_path_factory) -> Path:
    """An uninterrupted run of the settings ``RESUMED``."""
    return fit(load_config(ball_settings(balls, **RESUMED)), tmp_path_factory.mktemp("whole") / "run").run


def test_a_run_folder_contains_the_documented_files(ball_config, finished):
    result = finished
    names = {"config.yaml", "environment.json", "cases.json", "log.jsonl", "model.safetensors"}
    assert names <= {p.name for p in result.run.iterdir()}
    assert {p.name for p in (result.run / "checkpoints").iterdir()} == {"last.pt", "best.pt"}
    assert load_config(result.run / "config.yaml") == ball_config
    assert any((result.run / "tensorboard").iterdir())
    log = read_log(result.run / "log.jsonl")
    assert [entry["epoch"] for entry in log] == [1, 2]
    assert "The training has ended after 8 updates" in re.sub(
        "<[^>]*>", "", (result.run / "report.html").read_text()
    )
    scores = json.loads((result.run / "validation.json").read_text())
    assert np.mean([row["dice"] for row in scores if row["name"] == "ball"]) == pytest.approx(
        log[-1]["val_dice:ball"]
    )
    assert all(0 < entry["waiting"] < 1 for entry in log)


@pytest.mark.slow
def test_training_improves_the_score(balls, tmp_path):
    config = load_config(
        ball_settings(balls, epochs=2, iterations=80, batch_size=4),
        ["model.dropout=0", "train.optimizer.lr=0.01"],
    )
    assert (fit(config, tmp_path / "run").best or 0) > 0.8


@pytest.mark.slow
def test_two_runs_give_the_same_weights(ball_config, finished, tmp_path):
    fit(ball_config, tmp_path / "again")
    assert weights(tmp_path / "again") == weights(finished.run)


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on one core
def test_workers_change_nothing(balls, finished, tmp_path):
    fit(load_config(ball_settings(balls), ["data.workers=2"]), tmp_path / "two")
    a, b = (load_model(run / "model.safetensors")[1] for run in (finished.run, tmp_path / "two"))
    assert all(torch.equal(a[name], b[name]) for name in a)


class SuddenEndError(Exception):
    pass


class Stopper(QuietProgress):
    """Ends a training after a number of updates, as a crash would."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.stages: list[list] = []

    def start(self, total, description, *, unit="cases", completed=0):
        self.stages.append([description, completed])

    def advance(self, detail=""):
        self.stages[-1][1] += 1
        if self.stages[-1] == ["training", self.at]:
            raise SuddenEndError

    def finish(self):
        self.stages.pop()


@pytest.mark.parametrize("at", [1, 3, 4, 6])
def test_a_resumed_run_equals_an_uninterrupted_one(balls, whole, tmp_path, at):
    config = load_config(ball_settings(balls, **RESUMED))
    with pytest.raises(SuddenEndError):
        fit(config, tmp_path / "broken", progress=Stopper(at))
    fit(config, tmp_path / "broken", resume="auto")
    assert weights(tmp_path / "broken") == weights(whole)
    logs = [
        [e | {"seconds": 0, "waiting": 0} for e in read_log(run / "log.jsonl")]
        for run in (whole, tmp_path / "broken")
    ]
    assert logs[0] == logs[1]


def test_arguments_of_other_types_are_refused(ball_config, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(
        ConfigError, match=r"^config is 'config.yaml', expected a RunConfig. load_config returns"
    ):
        fit("config.yaml", run)
    with pytest.raises(ConfigError, match=r"^resume is 'sometimes', expected never or auto$"):
        fit(ball_config, run, resume="sometimes")
    sweep = read_sweep({"space": {"train.ema": [0, 0.98]}})
    with pytest.raises(ConfigError, match="expected a RunConfig"):
        run_sweep("config.yaml", sweep, run, trials=1)
    assert not run.exists()


def test_an_existing_run_is_not_overwritten(ball_config, finished):
    before = finished.model.read_bytes()
    with pytest.raises(ConfigError, match="--resume auto"):
        fit(ball_config, finished.run)
    assert finished.model.read_bytes() == before


def test_resuming_with_other_settings_is_refused_by_name(balls, finished):
    other = load_config(ball_settings(balls), ["train.optimizer.lr=0.5"])
    with pytest.raises(ConfigError, match=r"train\.optimizer\.lr: 0\.002 → 0\.5"):
        fit(other, finished.run, resume="auto")


def test_a_folder_of_other_files_is_rejected_as_run_folder(ball_config, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ConfigError, match="holds other files"):
        fit(ball_config, tmp_path)
    with pytest.raises(ConfigError, match="holds other files"):
        dry_run(ball_config, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_dataset_used_as_run_folder_is_unchanged(balls, tmp_path, capsys):
    shutil.copytree(balls, tmp_path / "h")
    before = sorted((tmp_path / "h").rglob("*"))
    for run in ("h", "h/images"):
        assert command(["train", str(tmp_path / "h"), "train.epochs=1", "--run", str(tmp_path / run)]) == 2
        assert "holds other files and no run" in capsys.readouterr().err
    assert sorted((tmp_path / "h").rglob("*")) == before


@pytest.mark.skipif(sys.platform == "win32", reason="processes are not forked there")
def test_two_processes_do_not_train_in_one_run_folder(ball_config, tmp_path):
    with locked(tmp_path / "run", worker=True) as (other, orphan):
        try:
            with pytest.raises(ConfigError, match=rf"process {other.pid} .*choose another --run folder"):
                fit(ball_config, tmp_path / "run", resume="auto")
            dry_run(ball_config, tmp_path / "run")
            other.kill()  # its worker lives on for a while
            other.wait()
            os.kill(orphan, 0)
            assert fit(ball_config, tmp_path / "run", resume="auto").epochs == 2
        finally:
            os.kill(orphan, signal.SIGKILL)
    assert not (tmp_path / "run" / LOCK_NAME).exists()
    assert len(read_log(tmp_path / "run" / "log.jsonl")) == 2


def test_a_run_killed_before_it_began_is_started(ball_config, tmp_path):
    (tmp_path / "run" / "cache").mkdir(parents=True)
    for name in (LOCK_NAME, ".tmp-1-abc-config.yaml"):
        (tmp_path / "run" / name).touch()
    assert fit(ball_config, tmp_path / "run", resume="auto").epochs == 2


def test_a_patch_far_larger_than_every_case_is_refused_before_memory_runs_out(balls, tmp_path):
    config = load_config(ball_settings(balls), ["sampling.patch_size=[999, 999, 999]"])
    for start in (fit, dry_run):
        with pytest.raises(
            ConfigError, match=r"sampling\.patch_size 999×999×999 .* at most \d+×\d+×\d+ voxels"
        ):
            start(config, tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_resuming_a_finished_run_changes_nothing(ball_config, finished):
    before = weights(finished.run)
    assert fit(ball_config, finished.run, resume="auto").epochs == 2
    assert weights(finished.run) == before


def test_checkpoints_load_safely(finished, tmp_path):
    state = torch.load(finished.run / "checkpoints" / "last.pt", weights_only=True)
    assert state["step"] == 8
    (tmp_path / "last.pt").write_bytes(b"PK\x03\x04 not a checkpoint")
    with pytest.raises(TrainingError, match=r"last\.pt"):
        load_checkpoint(tmp_path / "last.pt")


def test_early_stop_ends_the_training(balls, tmp_path):
    settings = ball_settings(
        balls, epochs=20, iterations=1, early_stop=2, optimizer={"name": "sgd", "lr": 1e-12}
    )
    result = fit(load_config(settings), tmp_path / "run")
    assert result.epochs == 3  # the first is the best, then two without a better one


def test_a_loss_that_is_not_finite_ends_it_and_keeps_the_checkpoint(balls, tmp_path):
    config = load_config(ball_settings(balls, save_every_steps=1))
    with pytest.raises(TrainingError, match=r"loss became nan at step 4.*last\.pt"):
        fit(config, tmp_path / "run", model=Exploding())
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["step"] == 3


def test_a_diverging_training_is_not_reported_as_an_error_of_medseg(balls, tmp_path, capsys):
    path = tmp_path / "config.yaml"
    settings = ball_settings(balls, optimizer={"name": "sgd", "lr": 1e30})
    path.write_text(to_yaml(load_config(settings)))
    assert command(["train", str(path), "--run", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "no checkpoint was saved yet\nhint: Lower train.optimizer.lr" in error
    assert "please report" not in error


class Exploding(nn.Module):
    """Its output is not a number from the fourth batch on."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(1, 3, 1)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.conv(x) * (float("nan") if self.calls > 3 else 1)


def reading_every(updates: int):
    """Initialize a loop that reads the losses as seldom as on a GPU."""
    initialize = TrainingLoop.__post_init__

    def post_init(self):
        initialize(self)
        self.read_every = updates

    return post_init


def test_losses_read_from_a_gpu_late_stop_the_training_before_a_checkpoint_is_written(
    balls, tmp_path, monkeypatch
):
    monkeypatch.setattr(TrainingLoop, "__post_init__", reading_every(16))
    config = load_config(ball_settings(balls, iterations=6, save_every_steps=2))
    with pytest.raises(TrainingError, match=r"loss became nan at step 4.*last\.pt"):
        fit(config, tmp_path / "run", model=Exploding())
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["step"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_losses_read_late_are_the_same_numbers(balls, tmp_path, monkeypatch, accumulate):
    config = load_config(ball_settings(balls, iterations=3, accumulate=accumulate))
    fit(config, tmp_path / "each")
    monkeypatch.setattr(TrainingLoop, "__post_init__", reading_every(2))
    fit(config, tmp_path / "late")
    one, two = (read_log(tmp_path / name / "log.jsonl") for name in ("each", "late"))
    assert [entry["loss"] for entry in one] == [entry["loss"] for entry in two]
    assert one[-1]["val_dice"] == two[-1]["val_dice"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
    ],
)
def test_a_full_disk_keeps_the_last_checkpoint(finished, tmp_path, monkeypatch, error):
    last = Path(shutil.copy(finished.run / "checkpoints" / "last.pt", tmp_path / "last.pt"))
    before = last.read_bytes()

    def full(*args, **kwargs):
        raise error

    monkeypatch.setattr(torch, "save", full)
    from medseg.training.run_folder.checkpoint import save_checkpoint

    with pytest.raises(DiskFullError, match="disk is full"):
        save_checkpoint(last, {})
    assert last.read_bytes() == before
    assert [p.name for p in last.parent.iterdir() if p.name.startswith(".tmp")] == []


def test_out_of_memory_names_settings_that_help(ball_config, tmp_path):
    class Greedy(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(1, 3, 1)

        def forward(self, x):
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 10 bytes")

    from medseg.errors import OutOfMemoryError

    with pytest.raises(OutOfMemoryError, match=r"train\.batch_size"):
        fit(ball_config, tmp_path / "run", model=Greedy())


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 3, 1))

    def forward(self, x):
        logits = self.layers(x)
        return {"out": logits, "aux": logits} if self.training else [logits]


def test_a_research_network_trains_and_loads_from_python_only(ball_config, balls, tmp_path):
    result = fit(ball_config, tmp_path / "run", model=Tiny())
    with pytest.raises(ModelFileError, match="Tiny"):
        Predictor(result.run)
    prediction = Predictor(result.run, model=Tiny()).predict(balls / "images" / "ball_0.nii.gz")
    assert prediction.label_map.shape == (20, 20, 20)


@pytest.mark.slow
def test_regions_train_with_a_sigmoid_and_come_back_as_labels(balls, tmp_path):
    settings = ball_settings(
        balls, epochs=1, iterations=120, batch_size=4, optimizer={"name": "adamw", "lr": 0.03}
    )
    regions = {"whole": ["ball", "core"], "core": ["core"]}
    settings["data"]["labels"] = {"names": settings["data"]["labels"], "regions": regions}
    settings["model"]["dropout"] = 0
    result = fit(load_config(settings), tmp_path / "run")
    assert (result.best or 0) > 0.8
    prediction = Predictor(result.run).predict(balls / "images" / "ball_0.nii.gz", probabilities=True)
    assert set(np.unique(prediction.label_map)) == {0, 1, 2}
    assert prediction.probabilities.shape == (2, 20, 20, 20)


@pytest.mark.slow
def test_pictures_train_too(squares, tmp_path):
    config = load_config(
        {
            "spatial_dims": 2,
            "data": {"path": str(squares), "workers": 0},
            "sampling": {"patch_size": [32, 32]},
            "model": {"channels": [4, 8], "deep_supervision": 0},
            "train": {"epochs": 1, "iterations": 60, "batch_size": 4, "optimizer": {"lr": 0.01}},
        }
    )
    result = fit(config, tmp_path / "run")
    assert (result.best or 0) > 0.8
    label_map = Predictor(result.run).predict(squares / "images" / "square_0.png").label_map
    assert set(np.unique(label_map)) == {0, 255}
    assert label_map.dtype == np.uint8


@pytest.mark.parametrize("options", [{"accumulate": 2}, {"amp": "bf16"}, {"channels_last": False}])
def test_training_options_run(balls, tmp_path, options):
    config = load_config(ball_settings(balls, epochs=1, iterations=2, **options))
    assert fit(config, tmp_path / "run").epochs == 1


@pytest.mark.parametrize("loss", [{"name": "focal"}, {"name": "ce", "class_weights": "sqrt"}, {"name": "dice"}])
def test_losses_by_name(balls, tmp_path, loss):
    config = load_config(ball_settings(balls, epochs=1, iterations=2) | {"loss": loss})
    assert fit(config, tmp_path / "run").epochs == 1


def test_faulty_cases_are_refused_before_training_all_at_once(tmp_path):
    root = write_balls(tmp_path / "data", cases=5)
    label = np.zeros((20, 20, 20), np.uint8)
    write_volume(root / "labels" / "ball_0.nii.gz", np.full((20, 20, 20), 9, np.uint8))
    write_volume(root / "labels" / "ball_1.nii.gz", label[..., :19])
    affine = np.eye(4)
    affine[0, 3] = 7
    write_volume(root / "labels" / "ball_2.nii.gz", label, affine)
    (root / "images" / "ball_3.nii.gz").write_bytes(b"")
    config = load_config(ball_settings(root))
    with pytest.raises(DataError) as caught:
        fit(config, tmp_path / "run")
    message = str(caught.value)
    assert "ball_1" in message
    assert "20×20×20 and 20×20×19" in message
    assert "7 mm" in message
    assert "empty" in message
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_unnamed_values_are_refused_with_the_case_named(tmp_path):
    root = write_balls(tmp_path / "data", cases=5)
    write_volume(root / "labels" / "ball_0.nii.gz", np.full((20, 20, 20), 9, np.uint8))
    with pytest.raises(DataError, match=r"case ball_0.*undeclared label values: 9") as caught:
        fit(load_config(ball_settings(root)), tmp_path / "run")
    assert "data.labels.others=background" in (caught.value.hint or "")
    assert "data check DATA --fix DIR --map 9=NEW" in (caught.value.hint or "")


def test_an_unknown_monitor_is_refused(balls, tmp_path):
    config = load_config(ball_settings(balls, monitor="dice:liver"))
    with pytest.raises(ConfigError, match="ball, core"):
        fit(config, tmp_path / "run")


def copy_of(balls: Path, target: Path) -> Path:
    shutil.copytree(balls, target)
    return target


def parts_of(run: Path) -> dict[str, str]:
    return {entry["id"]: entry["part"] for entry in json.loads((run / "cases.json").read_text())}


@pytest.mark.slow
def test_a_new_case_does_not_reshuffle_train_and_test_of_a_run_that_goes_on(balls, tmp_path):
    """Test cases were trained on, without a word, after one case was added."""
    root = copy_of(balls, tmp_path / "data")
    run = tmp_path / "run"
    settings = ball_settings(root, epochs=1, iterations=2)
    fit(load_config(settings), run)
    before = parts_of(run)
    write_balls(tmp_path / "more", cases=9)
    for i in (6, 7, 8):
        for folder in ("images", "labels"):
            shutil.copy(tmp_path / "more" / folder / f"ball_{i}.nii.gz", root / folder)
    write_volume(root / "labels" / "ball_0.nii.gz", np.ones((20, 20, 20), np.uint8))
    (root / "images" / "ball_1.nii.gz").unlink()
    (root / "labels" / "ball_1.nii.gz").unlink()
    longer = load_config(settings, ["train.epochs=2"])
    with pytest.raises(DataError, match="dataset changed since the start of this run") as caught:
        fit(longer, run, resume="auto")
    for line in (
        "case ball_6: new",
        "ball_0: label map changed",
        f"ball_1: missing (it was in {before['ball_1']})",
    ):
        assert line in str(caught.value)
    assert "--accept-new-cases" in str(caught.value)
    assert parts_of(run) == before

    fit(longer, run, resume="auto", accept_new_cases=True)
    after = parts_of(run)
    assert {i: part for i, part in after.items() if i in before} == {
        i: part for i, part in before.items() if i != "ball_1"
    }
    assert {after[f"ball_{i}"] for i in (6, 7, 8)} == {"train"}
    assert parts_of_file(run / "cases-until-step-2.json") == before
    assert "ball_7: new" in (run / "messages.log").read_text()
    fit(longer, run, resume="auto")  # what was accepted is no change any more


def parts_of_file(path: Path) -> dict[str, str]:
    return {entry["id"]: entry["part"] for entry in json.loads(path.read_text())}


def test_a_resumed_run_keeps_its_fitted_normalization(balls, tmp_path):
    root = copy_of(balls, tmp_path / "data")
    run = tmp_path / "run"
    config = load_config(ball_settings(root, epochs=1, iterations=2), ["preprocess.normalize.name=ct"])
    fit(config, run)
    first = load_model(run / "model.safetensors")[0].preprocess
    write_volume(root / "images" / "extra.nii.gz", np.full((20, 20, 20), 3000, np.int16))
    write_volume(root / "labels" / "extra.nii.gz", np.ones((20, 20, 20), np.uint8))
    fit(config, run, resume="auto", accept_new_cases=True)
    assert load_model(run / "model.safetensors")[0].preprocess == first


@pytest.mark.slow
def test_extending_a_training_warns_that_the_schedule_changes(balls, tmp_path):
    run = tmp_path / "run"
    fit(load_config(ball_settings(balls, epochs=1)), run)
    longer = load_config(ball_settings(balls, epochs=3))
    assert fit(longer, run, resume="auto").epochs == 3
    assert [e["epoch"] for e in read_log(run / "log.jsonl")] == [1, 2, 3]
    assert load_config(run / "config.yaml") == longer
    message = (run / "messages.log").read_text()
    assert "train.epochs is 3, the run was started for 1" in message
    assert "from step 5 on" in message
    with pytest.raises(ConfigError, match=r"train\.epochs: 3 → 2"):
        fit(load_config(ball_settings(balls, epochs=2)), run, resume="auto")


@pytest.mark.slow
def test_fit_shows_progress_and_can_be_quiet(balls, tmp_path, capsys):
    fit(load_config(ball_settings(balls, epochs=1)), tmp_path / "seen")
    shown = capsys.readouterr().err
    assert "layout: " in shown
    assert "epoch 1" in shown
    fit(load_config(ball_settings(balls, epochs=1)), tmp_path / "quiet", progress=QuietProgress())
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_the_number_of_threads_is_set_and_put_back(balls, tmp_path):
    class Seen(QuietProgress):
        threads = 0

        def advance(self, detail=""):
            self.threads = torch.get_num_threads()

    before = torch.get_num_threads()
    seen = Seen()
    config = load_config(ball_settings(balls, epochs=1, iterations=1, threads=3))
    fit(config, tmp_path / "run", progress=seen)
    assert (seen.threads, torch.get_num_threads()) == (3, before)
