"""The demonstrations, from data to scores."""

import json

import pytest

from medseg.cli.main import run
from medseg.demo.run import prepare_folder
from medseg.errors import ConfigError


@pytest.mark.slow
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


def test_a_folder_that_it_did_not_write_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ConfigError, match="not written by medseg demo"):
        prepare_folder(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "precious"
