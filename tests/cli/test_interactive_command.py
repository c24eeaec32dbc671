import csv
import json
import shutil

import numpy as np
import pytest
from conftest import write_picture

from medseg.cli import interactive_evaluation
from medseg.cli.main import run
from medseg.data.io.content_digest import content_digest
from medseg.evaluation.interactive import baseline_by_name
from medseg.prompts import Box


@pytest.fixture
def dataset(tmp_path):
    """Two pictures with one object each, and the scribbles of two people for one of them."""
    folder = tmp_path / "data"
    for number, name in enumerate(("a", "b")):
        label = np.zeros((24, 28), np.uint8)
        label[5 + number : 15, 6:18] = 1
        noise = np.random.default_rng(number).integers(0, 30, label.shape)
        write_picture(folder / "images" / f"{name}.png", (label * 180 + noise).astype(np.uint8))
        write_picture(folder / "labels" / f"{name}.png", label)
    painted = np.zeros((24, 28), np.uint8)
    painted[8:10, 8:14], painted[20, 3:20] = 1, 2
    for who in ("ann", "bob"):
        write_picture(tmp_path / "scribbles" / who / "a.png", painted)
    return folder


def evaluate(dataset, *options):
    return run(["evaluate", "--interactive", "random-walker", str(dataset), *map(str, options)])


def test_table_and_files(dataset, tmp_path, capsys):
    out = tmp_path / "out"
    options = ("--user", "box", "--baseline", "chan-vese", "--interactions", "1,2", "--output", out)
    assert evaluate(dataset, *options) == 0
    printed = capsys.readouterr().out
    assert "Dice@2" in printed
    assert "box: random-walker - chan-vese: mean Dice" in printed
    rows = list(csv.DictReader((out / "interactive_objects.csv").read_text().splitlines()))
    assert {(row["case"], row["method"]) for row in rows} == {
        ("a", "random-walker"), ("a", "chan-vese"), ("b", "random-walker"), ("b", "chan-vese")
    }  # fmt: skip
    own = [float(row["dice_last"]) for row in rows if row["method"] == "random-walker"]
    assert min(own) > 0.7
    assert (out / "report.html").read_text().count("data:image/png") >= 2
    assert evaluate(dataset, *options, "--no-report") == 0  # its own files may be replaced


def test_scribbles_of_people(dataset, tmp_path, capsys):
    folder = tmp_path / "scribbles"
    assert evaluate(dataset, "--user", "human", "--scribbles", folder, "--interactions", "1,2", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    scores = summary["scores"][0]
    assert (scores["user"], scores["cases"], scores["objects"]) == ("human", 1, 2)
    assert scores["dice"]["2"]["mean"] > 0.8


def test_a_damaged_image_is_listed_and_the_others_are_evaluated(dataset, tmp_path, capsys):
    image = dataset / "images" / "a.png"
    image.write_bytes(image.read_bytes()[:200])
    out = tmp_path / "out"
    assert evaluate(dataset, "--interactions", "1", "--output", out) == 4
    printed = capsys.readouterr()
    assert "failed: a: " in printed.err
    assert "truncated" in printed.err
    summary = json.loads((out / "interactive.json").read_text())
    assert list(summary["failed"]) == ["a"]
    assert summary["scores"][0]["cases"] == 1
    assert (out / "interactive.md").read_text().endswith("1 could not be evaluated, left out: a.\n")
    (dataset / "images" / "b.png").write_bytes(b"x")
    assert evaluate(dataset, "--interactions", "1") == 3
    assert "no case can be read (2):" in capsys.readouterr().err


def test_model_that_fails_gives_exit_code_4(dataset, monkeypatch, capsys):
    def fail(self, prompt):
        raise MemoryError(str(type(prompt) is Box))

    monkeypatch.setattr("medseg.evaluation.interactive.baselines.baseline.BaselineSession.add", fail)
    assert evaluate(dataset, "--user", "box", "--interactions", "1") == 4
    printed = capsys.readouterr()
    assert "random-walker failed on a, foreground (and 1 more): not enough memory (True)" in printed.err
    assert "0.000" in printed.out


@pytest.fixture
def run_folder(dataset, tmp_path, monkeypatch):
    """A run that trained on case a, a copy of which is in the dataset, and has no other case of it."""
    copy = tmp_path / "elsewhere.png"
    shutil.copy(dataset / "images" / "a.png", copy)
    entry = {"id": "renamed", "part": "train", "image": str(copy), "image_sha256": content_digest(copy)}
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "cases.json").write_text(json.dumps([entry]))
    monkeypatch.setattr(interactive_evaluation, "_load", lambda model: baseline_by_name("random-walker"))
    return folder


@pytest.mark.parametrize(("options", "cases"), [((), 1), (("--cases", "all"), 2), (("--cases", "train"), 1)])
def test_cases_of_the_training_are_left_out(run_folder, dataset, options, cases, capsys):
    command = ["evaluate", "--interactive", str(run_folder), str(dataset), "--json", "--interactions=1"]
    assert run([*command, *options]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["scores"][0]["cases"] == cases
    if not options:
        assert summary["selection"].startswith("1 of 2 cases; training and validation cases")


def test_part_without_any_case(run_folder, dataset, capsys):
    assert run(["evaluate", "--interactive", str(run_folder), str(dataset), "--cases", "test"]) == 3
    assert "no case is left" in capsys.readouterr().err


def test_names_that_are_unknown_list_the_known_ones(dataset, capsys):
    assert run(["evaluate", "--interactive", "nosuch", str(dataset)]) == 2
    printed = capsys.readouterr().err
    assert "nosuch: no such model; expected a run folder, a model file, a baseline (random-walker," in printed
    assert "sam_vit_b" in printed
    assert run(["evaluate", "--interactive", "random-waker", str(dataset)]) == 2
    assert "Did you mean random-walker?" in capsys.readouterr().err
    assert evaluate(dataset, "--user", "foo") == 2
    assert "expected one of human, clicks" in capsys.readouterr().err


def test_a_baseline_is_not_trained(dataset, capsys):
    assert evaluate(dataset, "--interactions", "1") == 0
    assert "cases: all cases; a baseline is not trained" in capsys.readouterr().out


def test_label_maps_with_a_suffix(dataset, capsys):
    for name in ("a", "b"):
        shutil.copy(dataset / "labels" / f"{name}.png", dataset / "labels" / f"{name}_late.png")
    assert evaluate(dataset, "--interactions", "1") == 3
    assert "give it with --label-suffix; or give a manifest" in " ".join(capsys.readouterr().err.split())
    assert evaluate(dataset, "--interactions", "1", "--label-suffix", "_late") == 0


def test_options_of_prompts_need_interactive(dataset, capsys):
    assert run(["evaluate", str(dataset / "labels"), str(dataset / "labels"), "--components"]) != 0
    assert "--components: only applies with --interactive" in capsys.readouterr().err
