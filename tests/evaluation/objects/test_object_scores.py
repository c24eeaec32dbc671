"""Comparison of numbered objects from files."""

import json
import pickle
import shutil

import click
import numpy as np
import pytest
from conftest import write_volume
from PIL import Image

from medseg.cli.commands.evaluation.evaluate import evaluate
from medseg.cli.main import run
from medseg.data.parallel import run_jobs
from medseg.errors import DataError, ExistingFileError
from medseg.evaluation.objects import comparison, evaluate_objects


def write(path, label_map):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(label_map, np.uint16)).save(path)


@pytest.fixture
def folders(tmp_path):
    """Two touching objects, one of which is found with the score 0.9; one object found with a false one."""
    write(tmp_path / "labels" / "a.png", [[1, 1, 2, 2], [1, 1, 2, 2]])
    write(tmp_path / "found" / "a.png", [[300, 300, 0, 0], [300, 300, 0, 0]])
    write(tmp_path / "labels" / "b.png", [[7, 7, 0, 0]])
    write(tmp_path / "found" / "b.png", [[1, 1, 0, 2]])
    tables = tmp_path / "found" / "instances"
    tables.mkdir()
    (tables / "a.csv").write_text("case,instance,class,score\na,300,cell,0.9\n")
    (tables / "b.csv").write_text("case,instance,class,score\nb,1,cell,0.8\nb,2,cell,0.7\n")
    return tmp_path


def test_scores_of_cases_and_of_all_together(folders):
    found = evaluate_objects(folders / "found", folders / "labels", folders / "out")
    assert [row["case"] for row in found.rows] == ["a", "b"]
    assert [row["reference"] for row in found.rows] == [2, 1]
    assert [row["pooled_50"] for row in found.rows] == [0.5, 0.5]
    scores = found.summary["scores"]
    assert scores["pooled_50"] == 0.5  # two found, one missed, one invented
    assert scores["ap"] == pytest.approx(67 / 101)  # precision 1 up to a recall of 2/3
    assert found.summary["ceiling"]["pooled_50"] == pytest.approx(2 / 3)  # the two in a are one component
    assert json.loads((folders / "out" / "objects.json").read_text())["cases"] == 2
    assert (folders / "out" / "objects.csv").read_text().splitlines()[0].startswith("case,reference,predicted")


def test_tables_of_others_are_not_replaced(folders, capsys):
    asked = ["evaluate", str(folders / "found"), str(folders / "labels"), "--objects"]
    for name in ("objects.csv", "objects.json"):
        output = folders / name.replace(".", "_")
        output.mkdir()
        (output / name).write_text("[]")
        assert run([*asked, "--output", str(output), "--no-report"]) == 3
        assert f"{name}: exists and was not written by medseg evaluate" in capsys.readouterr().err
        assert [(path.name, path.read_text()) for path in output.iterdir()] == [(name, "[]")]
    for _ in range(2):  # its own tables are
        assert run([*asked, "--output", str(folders / "out"), "--no-report"]) == 0


def test_a_failed_comparison_keeps_the_earlier_one_and_says_so(folders, caplog):
    evaluate_objects(folders / "found", folders / "labels", folders / "out")
    before = {path.name: path.read_bytes() for path in (folders / "out").iterdir()}
    for path in (folders / "labels").glob("*.png"):
        path.write_bytes(b"damaged")
    with pytest.raises(DataError, match="no case can be compared"):
        evaluate_objects(folders / "found", folders / "labels", folders / "out")
    assert {path.name: path.read_bytes() for path in (folders / "out").iterdir()} == before
    assert "the tables there are of an earlier evaluation" in caplog.text


def test_from_python_tables_of_others_are_not_replaced_either(folders):
    (folders / "out").mkdir()
    (folders / "out" / "objects.csv").write_text("name,size\n")
    with pytest.raises(ExistingFileError, match=r"objects\.csv: exists and was not written by"):
        evaluate_objects(folders / "found", folders / "labels", folders / "out")
    assert (folders / "out" / "objects.csv").read_text() == "name,size\n"


def test_predictions_without_a_reference_are_listed(folders, capsys):
    write(folders / "found" / "c.png", [[1]])
    asked = ["evaluate", str(folders / "found"), str(folders / "labels"), "--objects"]
    assert run(asked) == 3
    error = capsys.readouterr().err
    assert "c.png has no reference" in error
    assert "--extra ignore" in error
    assert run([*asked, "--extra", "ignore"]) == 0
    assert "predictions without a reference, left out (1):\n  c\n" in capsys.readouterr().out


def test_without_scores_there_is_no_average_precision(folders):
    (folders / "found" / "instances" / "b.csv").unlink()
    assert "ap" not in evaluate_objects(folders / "found", folders / "labels").summary["scores"]


def test_what_lacks_scores_is_said_where_the_average_precision_is_left_out(folders):
    assert evaluate_objects(folders / "found", folders / "labels").summary["notes"] == []
    table = folders / "found" / "instances" / "b.csv"
    table.write_text(table.read_text().replace("b,2,", "b,3,"))  # the number in the label map is 2
    found = evaluate_objects(folders / "found", folders / "labels", folders / "out")
    note = (
        "no average precision and no CPM: 1 of 2 cases have objects without a score in instances/CASE.csv, "
        "the first is b"
    )
    assert json.loads((folders / "out" / "objects.json").read_text())["notes"] == [note]
    assert f"note: {note}" in found.table().splitlines()


def test_label_maps_of_a_model_of_classes_give_a_warning(folders, caplog):
    evaluate_objects(folders / "found", folders / "labels")
    (folders / "found" / "medseg.json").write_text("{}")
    evaluate_objects(folders / "found", folders / "labels")
    assert not caplog.records
    shutil.rmtree(folders / "found" / "instances")
    evaluate_objects(folders / "found", folders / "labels")
    assert "with a model of classes" in caplog.text


def test_a_case_with_negative_values_is_listed(folders):
    for folder, values in (("labels", [[0, -1, 2]]), ("found", [[0, 1, 2]])):
        write_volume(folders / folder / "c.nii.gz", np.array([values], np.int16), np.eye(4))
    found = evaluate_objects(folders / "found", folders / "labels")
    assert [row["case"] for row in found.rows] == ["a", "b"]
    assert "the smallest value is -1" in found.failed["c"]


def test_the_command_prints_the_ceiling_beside_the_scores(folders, capsys):
    asked = ["evaluate", str(folders / "found"), str(folders / "labels"), "--objects"]
    assert run([*asked, "--output", str(folders / "out")]) == 0
    printed = capsys.readouterr().out
    assert "perfect foreground" in printed
    assert "COCO AP50" in printed
    assert run([*asked, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"]["split"] == 0


def test_other_grids_are_listed_as_failed(folders):
    write(folders / "found" / "b.png", [[1, 1]])
    found = evaluate_objects(folders / "found", folders / "labels")
    assert list(found.failed) == ["b"]
    write(folders / "found" / "a.png", [[1, 1]])
    with pytest.raises(DataError, match="no case can be compared"):
        evaluate_objects(folders / "found", folders / "labels")


@pytest.mark.parametrize(
    "option",
    ["--tolerance 2", "--metrics overlap", "--percentiles 99", "--like monai", "--misses exclude",
     "--labels a=1", "--others ignore", "--lesion-iou 0.2", "--lesion-sizes 9",
     "--brats GLI", "--surface voxel"],
)  # fmt: skip
def test_options_that_would_be_ignored_are_refused(folders, capsys, option):
    asked = ["evaluate", str(folders / "found"), str(folders / "labels"), "--objects", *option.split()]
    assert run(asked) == 2
    printed = capsys.readouterr().err
    assert f"{option.split()[0]}: has no effect with --objects" in printed
    assert "--ignore" in printed  # the options that it uses


def test_every_option_is_used_or_refused():
    used = {"output", "ignore_value", "label_suffix", "prediction_suffix", "images", "report", "as_json",
            "objects", "debug", "panoptic", "interactive", "extra", "missing"}  # fmt: skip
    asked = {"users", "baselines", "scribbles", "part", "interactions", "components", "most_objects", "seed"}
    tested = {"tolerance", "metrics", "percentiles", "like", "misses", "jobs", "labels", "others",
              "lesion_iou", "lesion_sizes", "brats", "surface"}  # fmt: skip
    options = {one.name for one in evaluate.params if isinstance(one, click.Option)}
    assert options == used | asked | tested


def test_cases_can_be_compared_in_other_processes(folders, monkeypatch):
    write(folders / "labels" / "c.png", [[1]])
    (folders / "found" / "c.png").write_bytes(b"damaged")
    asked = (folders / "found", folders / "labels")
    expected = evaluate_objects(*asked, jobs=1)
    assert list(expected.failed) == ["c"]
    sizes = []

    def run_elsewhere(function, jobs, done, on_error, **options):
        def call(item):
            function_sent, received = pickle.loads(pickle.dumps((function, item)))
            sizes.append(len(received[1].predictions))
            return pickle.loads(pickle.dumps(function_sent(received)))

        return run_jobs(call, jobs, done, on_error=on_error, **options)

    monkeypatch.setattr(comparison, "run_jobs", run_elsewhere)
    found = evaluate_objects(*asked, jobs=2)
    assert (found.rows, found.summary) == (expected.rows, expected.summary)
    assert sizes == [1, 1, 1]  # each process gets the files of its case only


def test_the_number_of_jobs_of_the_command(folders, monkeypatch):
    limits = []
    monkeypatch.setattr(comparison, "run_jobs", lambda *a, **b: limits.append(b["limit"]) or run_jobs(*a, **b))
    assert run(["evaluate", str(folders / "found"), str(folders / "labels"), "--objects", "--jobs", "2"]) == 0
    assert limits == [2]


def test_a_report_of_another_kind_is_not_replaced(folders, capsys):
    asked = ["evaluate", str(folders / "found"), str(folders / "labels"), "--output", str(folders / "out")]
    assert run([*asked, "--objects"]) == 0
    page = (folders / "out" / "report.html").read_bytes()
    assert run([*asked, "--others", "background"]) == 3
    assert "is a report of another kind (Evaluation of objects)" in capsys.readouterr().err
    assert not (folders / "out" / "cases.csv").exists()  # refused before anything is written
    assert run([*asked, "--labels", "first=1,second=2", "--others", "background", "--no-report"]) == 0
    assert (folders / "out" / "report.html").read_bytes() == page
    assert run([*asked, "--objects", "--no-report"]) == 0
    assert not (folders / "out" / "report.html").exists()  # it showed the earlier comparison
