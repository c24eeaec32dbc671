"""The demonstrations, from data to scores."""

import json
import signal
from dataclasses import replace

import pytest

from medseg.cli.main import run
from medseg.config.schema import load_config
from medseg.demo.run import DEMOS, prepare_folder, run_demo, shorten
from medseg.demo.shapes import write_shapes
from medseg.errors import ConfigError, TrainingStopped


@pytest.mark.slow
def test_a_demonstration_from_data_to_tables_and_pictures(tmp_path):
    demo = DEMOS["shapes"]
    train = demo.settings["train"] | {"epochs": 1, "iterations": 60, "validate_every": 1}
    short = replace(
        demo,
        write=lambda folder: write_shapes(folder, cases=40, seed=0),
        settings=demo.settings | {"train": train},
    )
    evaluation = run_demo(short, tmp_path)
    assert len(list((tmp_path / "predictions" / "overlays").glob("*.png"))) == 4
    assert (tmp_path / "metrics" / "cases.csv").is_file()
    assert json.loads((tmp_path / "metrics" / "summary.json").read_text())["overall"]["mean_dice"]["mean"] > 0.3
    assert {row["name"] for row in evaluation.rows} >= {"triangle"}


@pytest.mark.exhaustive
def test_the_demonstrations_reach_their_scores(tmp_path, capsys):
    assert run(["demo", "--output", str(tmp_path / "demo")]) == 0
    printed = capsys.readouterr().out
    assert "lesion" in printed
    assert "triangle" in printed
    scores = json.loads((tmp_path / "demo" / "phantoms" / "metrics" / "summary.json").read_text())
    assert scores["overall"]["mean_dice"]["mean"] >= 0.85
    assert scores["labels"]["lesion"]["metrics"]["dice"]["mean"] >= 0.70
    assert len(list((tmp_path / "demo" / "phantoms" / "predictions" / "overlays").glob("*.png"))) == 8
    shapes = json.loads((tmp_path / "demo" / "shapes" / "metrics" / "summary.json").read_text())
    assert shapes["overall"]["mean_dice"]["mean"] >= 0.80


def test_an_interrupted_demonstration_starts_over(tmp_path, monkeypatch, capsys):
    def stop(*arguments, **named):
        raise TrainingStopped(signal.SIGINT, "medseg train …")

    monkeypatch.setattr("medseg.demo.run.fit", stop)
    monkeypatch.setitem(DEMOS, "phantoms", replace(DEMOS["phantoms"], write=lambda folder: None))
    assert run(["demo", "--quick", "--output", str(tmp_path / "demo")]) == 130
    assert capsys.readouterr().err.splitlines() == [
        "training interrupted (Ctrl+C); its state is saved",
        "hint: Run the demonstration again; it starts over.",
    ]


def test_a_quick_demonstration_has_a_quarter_of_the_updates():
    for demo in DEMOS.values():
        whole, quick = (load_config(one.settings).train for one in (demo, shorten(demo)))
        assert quick.epochs * quick.iterations == whole.epochs * whole.iterations / 4


def test_a_folder_that_it_did_not_write_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ConfigError, match="not written by medseg demo"):
        prepare_folder(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "precious"
