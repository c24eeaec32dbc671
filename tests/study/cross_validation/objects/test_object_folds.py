"""Whole cross-validations of tiny networks that tell objects apart."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from study_doubles import InProcessCommands
from test_fit_detector import MODELS
from test_fit_instances import settings, write_cells

from medseg.cli.main import run
from medseg.inference.backends import selection
from medseg.inference.model.ensemble.file import load_ensemble
from medseg.progress import QuietProgress
from medseg.study import CrossValidationConfig, cross_validate
from medseg.study.cross_validation.folder import StudyFolder
from medseg.study.cross_validation.objects.decoding import median_decoding, read_decoding

pytestmark = pytest.mark.slow


def validate(data, folder, failing=(), **changes):
    """Cross-validate with one test case; return the result and the names of the trained folds."""
    executor = InProcessCommands(failing)
    raw = {**settings(data), "task": {"decoder": "distance"}, **changes}
    config = CrossValidationConfig(raw, ("data.split.test=0.2",), folds=2)
    result = cross_validate(config, folder, progress=QuietProgress(), executor=executor)
    return result, executor.started


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    return write_cells(tmp_path_factory.mktemp("cells"), cases=5)


@pytest.fixture(scope="module", autouse=True)
def torch_only():
    """The backend of results of the fixture below is that of the tests, whose own fixture begins later."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "_why_torch", lambda setup: "tests do not convert networks")
        yield


@pytest.fixture(scope="module")
def finished(cells, tmp_path_factory):
    """A study whose second fold failed at first."""
    folder = tmp_path_factory.mktemp("finished") / "cv"
    first, _ = validate(cells, folder, failing=("fold 1",))
    assert [row["fold"] for row in first.table] == ["0", "all"]
    assert first.model is None
    assert "Failed folds:" in first.markdown
    second, started = validate(cells, folder)
    assert started == ["fold 1"]
    assert not second.failed
    return second


def records(root):
    folder = root / "out_of_fold/predictions/provenance"
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")}


def test_held_out_cases_are_decoded_with_the_thresholds_of_the_other_fold(finished):
    root = StudyFolder(finished.output)
    splits = json.loads(root.splits.read_text(encoding="utf-8"))
    found = records(finished.output)
    assert sorted(found) == sorted(splits[0]["val"] + splits[1]["val"])
    for fold, split in enumerate(splits):
        other = read_decoding(root.fold(1 - fold)).model_dump(mode="json")
        for case in split["val"]:
            made_of = found[case]["made_of"]["models"][0]
            assert made_of["inference"][-1]["instances"] == other
            assert case not in split["train"]


def test_tables_are_those_of_the_command_for_objects(finished, cells, tmp_path):
    root = finished.output
    assert [(row["fold"], row["cases"]) for row in finished.table] == [("0", 2), ("1", 2), ("all", 4)]
    predictions = root / "out_of_fold/predictions"
    assert run(["evaluate", "--objects", str(predictions), str(cells), "--output", str(tmp_path)]) == 0
    ours = json.loads((root / "out_of_fold/metrics/objects.json").read_text(encoding="utf-8"))
    theirs = json.loads((tmp_path / "objects.json").read_text(encoding="utf-8"))
    assert ours["scores"] == theirs["scores"]
    assert (root / "out_of_fold/metrics/objects.csv").read_bytes() == (tmp_path / "objects.csv").read_bytes()
    assert (root / "out_of_fold/metrics/report.html").is_file()
    with (root / "cases.csv").open(newline="", encoding="utf-8") as stream:
        assert sorted({row["fold"] for row in csv.DictReader(stream)}) == ["0", "1"]
    report = (root / "report.html").read_text(encoding="utf-8")
    assert 'href="out_of_fold/metrics/report.html"' in report
    assert "Medians of the thresholds of all folds" in report


def test_the_ensemble_averages_the_maps_and_has_the_median_thresholds(finished, cells, tmp_path):
    folder = StudyFolder(finished.output)
    middle = median_decoding([read_decoding(folder.fold(number)) for number in (0, 1)])
    _, models = load_ensemble(finished.model)
    assert [model.header.inference.instances for model in models] == [middle, middle]
    summary = json.loads(folder.summary.read_text(encoding="utf-8"))
    assert [row["model"] for row in summary["test"]] == ["fold 0", "fold 1", "ensemble"]
    out = tmp_path / "out"
    command = ["infer", str(cells / "images/c0.png"), "--model", str(finished.output), "--output", str(out)]
    assert run(command) == 0
    assert np.asarray(Image.open(out / "c0.png")).shape == (48, 48)


def test_started_again_nothing_is_trained_or_predicted(finished, cells):
    folder = finished.output / "out_of_fold/predictions/provenance"
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    again, started = validate(cells, finished.output)
    assert started == []
    assert again == finished
    assert before == {path: path.stat().st_mtime_ns for path in folder.glob("*.json")}


def test_detectors_have_no_ensemble(cells, tmp_path):
    changes = {"model": MODELS["retina_unet"], "task": {"decoder": "boxes"}}
    result, _ = validate(cells, tmp_path / "cv", **changes)
    assert not result.failed
    assert result.model is None
    assert "Detectors cannot be averaged, so there is no ensemble file." in result.markdown
    assert [row["fold"] for row in result.table] == ["0", "1", "all"]
