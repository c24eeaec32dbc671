import errno
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ball_settings, write_balls, write_volume

import medseg
from medseg.cli.main import run
from medseg.config.schema import load_config, to_yaml
from medseg.errors import MedsegError
from medseg.inference.batch.case_job import CaseJob


@pytest.fixture(scope="module")
def trained(balls, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    path = folder / "balls.yaml"
    path.write_text(to_yaml(load_config(ball_settings(balls))))
    assert run(["train", str(path), "--run", str(folder / "run")]) == 0
    return folder


def test_train_infer_evaluate(trained, balls, tmp_path, capsys):
    out, tables = tmp_path / "p", tmp_path / "e"
    assert run(["infer", "--model", str(trained / "run"), "--cases", "test", "--output", str(out)]) == 0
    assert run(["evaluate", str(out), str(balls / "labels"), "--output", str(tables)]) == 0
    printed = capsys.readouterr().out
    assert "mean Dice" in printed
    assert (tables / "cases.csv").is_file()


@pytest.mark.slow
def test_standard_output_is_pure_json(trained, balls, tmp_path, capsys):
    run(["infer", "--model", str(trained / "run"), str(balls), "--output", str(tmp_path / "p"), "--json"])
    assert json.loads(capsys.readouterr().out)["done"] == 6
    run(["evaluate", str(tmp_path / "p"), str(balls / "labels"), "--output", str(tmp_path / "e"), "--json"])
    assert "overall" in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train"], 2, "Missing argument"),
        (["train", "nothing.yaml"], 2, "no such configuration file"),
        (["frobnicate"], 2, "No such command"),
        (["infer", "--model", "nothing", "--output", "o", "x.nii.gz"], 2, "no such model file"),
        (["infer", "--model", "nothing", "--output", "o"], 2, "either INPUTS or --cases"),
        (["evaluate", "nothing", "nothing", "--output", "o"], 3, "no such file or folder"),
        (["config", "show", "nothing.yaml"], 2, "no such configuration file"),
    ],
)
def test_errors_are_one_message_and_a_code(arguments, code, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == code
    err = capsys.readouterr().err
    assert words in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_an_included_config_is_found_by_its_name(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("hippocampus_unet3d", "hippocampus_unet3d.yaml"):
        assert run(["config", "show", name]) == 0
        printed = capsys.readouterr()
        assert "spatial_dims: 3" in printed.out
        assert re.search(r"^using .*configs/hippocampus_unet3d\.yaml$", printed.err, flags=re.M)
    (tmp_path / "hippocampus_unet3d.yaml").write_text("spatial_dims: 2\n")  # a file of the user has priority
    assert run(["config", "show", "hippocampus_unet3d.yaml"]) == 0
    assert "spatial_dims: 2" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["train"], ["config", "show"]])
def test_a_missing_config_is_an_error_that_names_the_included_one(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run([*command, "configs/hippocampus_unet3d.yaml"]) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("error: configs/hippocampus_unet3d.yaml: no such configuration file")
    path = re.fullmatch(r"hint: medseg includes (.*); medseg accepts its name, hippocampus_unet3d, too\.", hint)
    assert path is not None
    assert Path(path[1]).is_file()


@pytest.mark.parametrize("command", ["train", "plan", "data check"])
def test_a_mistyped_folder_gives_3_and_the_similar_name(command, capsys, tmp_path):
    (tmp_path / "nuclei").mkdir()
    assert run([*command.split(), str(tmp_path / "nucleii")]) == 3
    error = f"error: {tmp_path / 'nucleii'}: does not exist; did you mean {tmp_path / 'nuclei'}?\n"
    assert capsys.readouterr().err == error


def test_the_included_configurations_are_suggested_for_a_bare_name_only(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["train", "nothing"]) == 3
    assert "hint: medseg config list" in capsys.readouterr().err
    assert run(["train", "data/nothing"]) == 3
    assert "hint" not in capsys.readouterr().err


def test_some_failed_cases_give_4(trained, balls, tmp_path, capsys):
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"not a scan")
    good = balls / "images" / "ball_0.nii.gz"
    code = run(["infer", "--model", str(trained / "run"), str(bad), str(good), "--output", str(tmp_path / "p")])
    assert code == 4
    assert "1 done, 0 skipped, 1 failed" in capsys.readouterr().out


@pytest.mark.slow
def test_an_interrupted_inference_says_how_far_it_came(trained, balls, tmp_path, capsys, monkeypatch):
    scans = [str(balls / "images" / f"ball_{i}.nii.gz") for i in range(3)]
    command = ["infer", *scans, "--model", str(trained / "run"), "--output", str(tmp_path / "p")]
    compute = CaseJob.compute

    def interrupted(job, step):
        if job.case.id == "ball_1":
            raise KeyboardInterrupt
        return compute(job, step)

    with monkeypatch.context() as patch:
        patch.setattr(CaseJob, "compute", interrupted)
        assert run(command) == 130
    assert "stopped after 1 of 3 cases; repeat the command to continue" in capsys.readouterr().err
    assert run(command) == 0
    assert "2 done, 1 skipped, 0 failed" in capsys.readouterr().out


def test_faulty_data_gives_3(tmp_path, capsys):
    root = write_balls(tmp_path / "data", cases=4)
    (root / "labels" / "ball_0.nii.gz").unlink()
    path = tmp_path / "c.yaml"
    path.write_text(to_yaml(load_config(ball_settings(root))))
    assert run(["train", str(path), "--run", str(tmp_path / "run")]) == 3
    assert "ball_0.nii.gz has no label map" in capsys.readouterr().err


@pytest.mark.slow
def test_training_on_a_folder_prints_the_chosen_settings(tmp_path, capsys):
    root = write_balls(tmp_path / "data", cases=5)
    options = ["train.epochs=1", "train.iterations=2", "data.workers=0", "--run", str(tmp_path / "run")]
    assert run(["train", str(root), *options]) == 0
    printed = capsys.readouterr().err
    assert "patch          20×20×20 voxels" in printed
    assert "updates        2 updates (1 epoch of 2)" in printed
    assert "weight_decay" not in printed  # only the most important ones
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert run(["train", str(root), *options]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {tmp_path / 'run'}: already contains a run")  # before any listing


def test_dry_run_prints_an_estimate(balls, tmp_path, capsys):
    path = tmp_path / "c.yaml"
    path.write_text(to_yaml(load_config(ball_settings(balls))))
    assert run(["train", str(path), "--dry-run", "--run", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"peak memory +\d+\.\d\d GB", printed)
    assert "whole training" in printed


def test_config_show_and_schema(tmp_path, capsys, monkeypatch):
    (tmp_path / "c.yaml").write_text("data: {path: cases}\n")
    assert run(["config", "show", str(tmp_path / "c.yaml"), "train.epochs=7"]) == 0
    printed = capsys.readouterr().out
    assert "epochs: 7" in printed
    assert str(tmp_path / "cases") in printed
    assert run(["config", "schema"]) == 0
    assert "properties" in json.loads(capsys.readouterr().out)


def test_doctor_prints_findings_of_every_topic(capsys):
    assert run(["doctor", "--json"]) in (0, 1)
    topics = {f["topic"] for f in json.loads(capsys.readouterr().out)}
    assert {"system", "memory", "devices", "packages"} <= topics


def test_debug_shows_the_traceback():
    with pytest.raises(MedsegError):  # of which Python shows the traceback
        run(["train", "nothing.yaml", "--debug"])


def test_help_imports_no_heavy_package():
    code = (
        "import sys, medseg, medseg.cli.main; medseg.cli.main.run(['--help']); "
        "print(sorted({'torch', 'monai', 'numpy', 'pydantic', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("module", ["train", "infer", "evaluate"])
def test_modules_run_as_commands(module):
    done = subprocess.run(
        [sys.executable, "-m", f"medseg.{module}", "--help"], capture_output=True, text=True, check=True
    )
    assert f"medseg {module}" in done.stdout


def test_public_names_are_sorted_and_importable():
    assert sorted(medseg.__all__) == medseg.__all__
    assert all(getattr(medseg, name) is not None for name in medseg.__all__)
    assert not {"train", "infer", "evaluate"} & set(medseg.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = medseg.nothing


def test_volumes_with_axes_of_length_one_are_segmented(trained, tmp_path, capsys):
    write_volume(tmp_path / "in" / "one_voxel.nii.gz", np.ones((1, 1, 1), np.float32))
    write_volume(tmp_path / "in" / "flat.nii.gz", np.ones((30, 1, 12), np.float64))
    code = run(
        ["infer", "--model", str(trained / "run"), str(tmp_path / "in"), "--output", str(tmp_path / "p")]
    )
    assert code == 0
    assert "2 done" in capsys.readouterr().out


def test_an_output_below_a_file_is_an_error_with_a_hint(trained, balls, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    scan = str(balls / "images" / "ball_0.nii.gz")
    code = run(["infer", "--model", str(trained / "run"), scan, "--output", str(tmp_path / "file" / "p")])
    assert code == 2
    err = capsys.readouterr().err
    assert "Not a directory" in err
    assert "\nhint: A folder is expected there" in err
    assert "Traceback" not in err


def test_plan_writes_a_configuration_file(balls, tmp_path, capsys):
    path = tmp_path / "plan.yaml"
    assert (
        run(["plan", str(balls), "train.epochs=3", "-o", str(path), "--budget", "1min", "--device", "cpu"]) == 0
    )
    assert "6 volumes" in capsys.readouterr().out
    assert load_config(path).train.epochs == 3
    assert "# U-Net with" in path.read_text()
    assert run(["plan", str(balls), "--gpu-memory", "much"]) == 2
    assert "expected a size such as 8GB" in capsys.readouterr().err
    assert run(["plan", str(tmp_path / "nowhere")]) == 3


def test_a_full_disk_is_reported_with_the_users_file_and_the_free_space(tmp_path, monkeypatch, capsys):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "a.yaml"))

    monkeypatch.setattr("medseg.planning.plan.plan_dataset", full)
    (tmp_path / "data").mkdir()
    assert run(["plan", str(tmp_path / "data"), "-o", str(tmp_path / "a.yaml")]) == 1
    error = capsys.readouterr().err
    assert re.search(r"error: \S*a\.yaml: no space left on the disk \([0-9.]+ MiB free\)\n", error)
    assert "Free some space" in error
