"""Comparison of runs on their test cases."""

import json
import shutil

import numpy as np
import pytest
import torch

from medseg import compare_runs, fit
from medseg.cli.main import run
from medseg.config.schema import load_config
from medseg.data.cases import Case
from medseg.errors import ConfigError, DataError
from medseg.evaluation.comparison import ComparisonOptions, MethodScores
from medseg.inference.model.model_file import write_tensors
from medseg.study import run_scores
from medseg.study.methods import is_run


@pytest.fixture
def runs(tmp_path):
    """Two folders that look like runs."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        for file in ("cases.json", "model.safetensors"):
            (tmp_path / name / file).touch()
    return tmp_path


def test_runs_are_scored_and_compared_on_common_test_cases(runs, monkeypatch, capsys):
    cases = {"first": "abcdef", "second": "bcdefg"}
    rng = np.random.default_rng(0)

    def score(name, path, folder, part, options, progress):
        level = 0.6 if name == "second" else 0.5
        row = {"name": "ball", "status": "scored"}
        rows = [row | {"case": case, "dice": level + rng.random() / 50} for case in cases[name]]
        return MethodScores(name, rows, requested=frozenset(cases[name]), source=str(part))

    monkeypatch.setattr(run_scores, "score_run", score)
    assert is_run(runs / "first")
    options = ComparisonOptions(resamples=10, part="val")
    comparison = compare_runs([runs / "first", runs / "second"], options=options)
    assert comparison.table.cases == tuple("bcdef")
    assert comparison.sources == {"first": "val", "second": "val"}
    assert run(["compare", str(runs / "first"), str(runs / "second")]) == 0
    assert "because second was not to segment it: a" in capsys.readouterr().out


@pytest.mark.parametrize("key", ["instances", "prompts"])
def test_models_of_objects_and_prompts_are_refused_before_they_predict(runs, key):
    write_tensors(runs / "second" / "model.safetensors", json.dumps({key: {}}), {"weight": torch.zeros(1)})
    with pytest.raises(ConfigError, match=r"second: the model .*; expected one that predicts classes"):
        compare_runs([runs / "first", runs / "second"])


def test_a_case_without_label_map_has_no_reference(tmp_path, monkeypatch):
    class Header:
        class label_reader:  # noqa: N801
            read = staticmethod(lambda case, scan: None)

    monkeypatch.setattr(run_scores, "read_image", lambda case: None)
    with pytest.raises(DataError, match="no label map to compare"):
        run_scores.write_reference(Case("a", tmp_path / "a.nii.gz"), Header(), tmp_path)


def test_references_follow_corrected_labels(tmp_path, monkeypatch):
    from types import SimpleNamespace

    image = tmp_path / "image.nii.gz"
    header = SimpleNamespace(label_reader=SimpleNamespace(read=lambda case, scan: scan))
    for value in (1, 2):
        labels = SimpleNamespace(values=np.full((2, 2, 2), value, np.int64), affine=np.eye(4))
        monkeypatch.setattr(run_scores, "read_image", lambda case, labels=labels: labels)
        written = []
        writer = SimpleNamespace(
            write_label_map=lambda path, values, scan, schema, w=written: (w.append(values), path.touch())
        )
        monkeypatch.setattr(run_scores, "reader_for", lambda path, writer=writer: writer)
        run_scores.write_reference(Case("a", image), header, tmp_path / "references")
        assert [int(values.max()) for values in written] == [value]


@pytest.mark.slow
def test_a_run_equals_its_copy(ball_config, tmp_path):
    fit(load_config(ball_config.model_dump(mode="json")), tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    comparison = compare_runs([tmp_path / "first", tmp_path / "second"], tmp_path / "out")
    assert comparison.labels == ("ball", "core")
    assert all(pair.difference == 0 and pair.p_permutation == 1 for pair in comparison.pairs)
    assert any("same predictions" in note for note in comparison.notes)
    assert len(list((tmp_path / "out" / "methods" / "first" / "predictions").glob("*.nii.gz"))) == 1
