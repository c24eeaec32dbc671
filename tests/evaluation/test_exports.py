import csv
import json
import re

import numpy as np
import pytest
import tifffile
from conftest import write_picture, write_volume
from PIL import Image

from medseg.cli.main import run
from medseg.errors import ConfigError, DataError, ExistingFileError
from medseg.evaluation import EvaluationOptions, evaluate_cases, parse_labels, parse_tolerance
from medseg.metrics import LesionOptions

LABELS = parse_labels("left=1,right=2")


@pytest.fixture
def pictures(tmp_path):
    """Two cases with two labels: one perfect, one that lacks the label on the right."""
    reference = np.zeros((6, 8), np.uint8)
    reference[1:3, 1:3], reference[1:3, 5:7] = 1, 2
    for case, guess in (("a", reference), ("b", np.where(reference == 2, 0, reference).astype(np.uint8))):
        write_picture(tmp_path / "labels" / f"{case}_first.png", reference)
        write_picture(tmp_path / "predictions" / f"{case}.png", guess)
    return tmp_path


def evaluate(folder, output=None, **options):
    options = EvaluationOptions(**({"labels": LABELS, "label_suffix": "_first"} | options))
    return evaluate_cases(folder / "predictions", folder / "labels", output, options)


def test_files_of_an_evaluation(pictures):
    evaluate(pictures, pictures / "out")
    names = {path.name for path in (pictures / "out").iterdir() if path.suffix != ".parquet"}
    assert names == {"cases.csv", "scores.csv", "summary.json", "files.json", "table.md", "table.tex"}
    with (pictures / "out" / "scores.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["case", "label", "name", "status", "metric", "value", "unit"]
    missed = [row for row in rows if row["case"] == "b" and row["name"] == "right"]
    assert {row["metric"]: row["value"] for row in missed}["hd95"] == "inf"
    # the diagonal of 6 x 8 pixels is 10; Student's t interval of 0 and 10 is 5 ± 12.706 · 5, of distances
    assert "| right | 2 | 1 of 2 | 0 |" in (pictures / "out" / "table.md").read_text()
    assert "5.00 (0.00 to 68.53)" in (pictures / "out" / "table.tex").read_text()
    evaluate(pictures, pictures / "out")  # its own tables are replaced


def test_what_the_numbers_depend_on_travels_with_them(pictures):
    evaluation = evaluate(pictures, pictures / "out", tolerance={"right": 2.0})
    summary = json.loads((pictures / "out" / "summary.json").read_text())
    assert summary["definitions"]["tolerance_px"] == {"left": 1.0, "right": 2.0}
    assert summary["definitions"]["misses"] == "worst"
    assert summary["cases"]["b"] == {
        "status": "scored", "shape": [6, 8], "spacing": [1.0, 1.0], "diagonal": 10.0
    }  # fmt: skip
    assert {"medseg", "numpy", "scipy", "created"} <= set(summary["provenance"])
    assert summary["sources"] == {"predictions": "predictions", "references": "labels"}
    assert [row["tolerance_px"] for row in evaluation.rows] == [1.0, 2.0, 1.0, 2.0]
    assert evaluation.rows[0]["spacing_px"] == "1x1"
    # 88 of 96 pixels are background, 8 left, and 4 of 8 right are called background
    assert summary["dataset"]["confusion"] == [[80, 0, 0], [0, 8, 0], [4, 0, 4]]
    assert summary["dataset"]["classes"] == ["background", "left", "right"]


def test_data_frames(pictures):
    evaluation = evaluate(pictures)
    frame, long = evaluation.to_frame(), evaluation.to_long_frame()
    assert frame.groupby("name")["dice"].mean().to_dict() == {"left": 1.0, "right": 0.5}
    assert long[long["metric"] == "dice"]["value"].tolist() == frame["dice"].tolist()
    assert frame.attrs["definitions"]["unit"] == "px"
    assert json.loads(json.dumps(frame.attrs))["coverage"]["scored"] == 2


def test_parquet_keeps_the_definitions(pictures):
    pytest.importorskip("pyarrow")
    import pandas as pd

    evaluation = evaluate(pictures, pictures / "out")
    frame = pd.read_parquet(pictures / "out" / "scores.parquet")
    assert frame.attrs["definitions"]["tolerance_px"] == 1.0
    for name, own in (("scores", evaluation.to_long_frame()), ("cases", evaluation.to_frame())):
        stored = pd.read_parquet(pictures / "out" / f"{name}.parquet")
        pd.testing.assert_frame_equal(stored, own)  # among them distances of inf and undefined scores
        assert stored.attrs == own.attrs
        table = pd.read_csv(pictures / "out" / f"{name}.csv", dtype={"label": str, "value": float})
        pd.testing.assert_frame_equal(stored, table, check_dtype=False)


@pytest.mark.parametrize("name", ["scores.csv", "table.md", "table.tex", "cases.parquet"])
def test_other_files_are_not_replaced(pictures, name):
    (pictures / "out").mkdir()
    (pictures / "out" / name).write_text("something else")
    with pytest.raises(ExistingFileError, match=rf"{name}: exists and was not written by medseg evaluate"):
        evaluate(pictures, pictures / "out")


def test_a_tolerance_per_label():
    assert parse_tolerance("right=2, left=0.5") == {"right": 2.0, "left": 0.5}
    for text in ("right=a", "big", "right=1,right=2"):
        with pytest.raises(ConfigError, match="--tolerance"):
            parse_tolerance(text)
    with pytest.raises(ConfigError, match="expected a finite number"):
        EvaluationOptions(tolerance={"left": -1.0})


def test_a_tolerance_of_an_unknown_label(pictures):
    with pytest.raises(ConfigError, match=r"'rigth' is not a label\. Did you mean right\?"):
        evaluate(pictures, tolerance={"rigth": 2.0})


def test_two_observers_have_a_suffix_each(pictures):
    for path in (pictures / "predictions").iterdir():
        path.rename(path.with_name(f"{path.stem}_second.png"))
    evaluation = evaluate(pictures, prediction_suffix="_second")
    assert [row["case"] for row in evaluation.rows] == ["a", "a", "b", "b"]
    with pytest.raises(DataError, match="no label maps whose names end with _third"):
        evaluate(pictures, prediction_suffix="_third")
    one = evaluate_cases(
        pictures / "predictions" / "b_second.png",
        pictures / "labels",
        options=EvaluationOptions(labels=LABELS, label_suffix="_first", prediction_suffix="_second"),
    )
    assert list(one.files) == ["b"]


def test_files_and_images_of_the_cases(pictures):
    write_picture(pictures / "images" / "a.png", np.zeros((6, 8), np.uint8))
    files = evaluate(pictures, images=pictures / "images").files
    assert files["a"].image == pictures / "images" / "a.png"
    assert files["a"].prediction == pictures / "predictions" / "a.png"
    assert files["b"].image is None


def test_a_pair_needs_no_folder(pictures, capsys):
    pair = [str(pictures / "predictions" / "b.png"), str(pictures / "labels" / "b_first.png")]
    assert run(["evaluate", *pair, "--labels", "left=1,right=2"]) == 0
    printed = capsys.readouterr().out
    assert "1 of 2 structures missed, 0 spurious" in printed
    right = next(line.split() for line in printed.splitlines() if line.split()[:1] == ["right"])
    assert right == ["right", "0.000", "0.000", "–", "0.000", "inf", "inf", "0.000", "4", "0"]
    assert run(["evaluate", *pair, "--labels", "left=1,right=2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"]["right"]["metrics"]["hd95"]["mean"] == 10.0


def test_more_groups_of_metrics(pictures, capsys):
    write_picture(pictures / "labels" / "c_first.png", np.full((6, 8), 2, np.uint8))  # not predicted
    groups = ("overlap", "boundary", "topology", "lesions")
    evaluation = evaluate(
        pictures, metrics=groups, percentiles=(95, 99), missing="worst", lesions=LesionOptions(size_edges=(3,))
    )
    right = {row["case"]: row for row in evaluation.rows if row["name"] == "right"}
    assert (right["a"]["lesion_f1"], right["a"]["cldice"], right["a"]["hd99"]) == (1.0, 1.0, 0.0)
    assert (right["b"]["lesion_fn"], right["b"]["lesion_sensitivity_>3"]) == (1, 0.0)
    assert (right["c"]["status"], right["c"]["lesion_f1"], right["c"]["fn"]) == ("missing", 0.0, 48)
    metrics = evaluation.summary["labels"]["right"]["metrics"]
    assert (metrics["lesion_precision"]["mean"], metrics["lesion_precision"]["n"]) == (pytest.approx(1 / 3), 3)
    # 0, and twice the diagonal of 10
    assert metrics["hd99"]["mean"] == pytest.approx(20 / 3)
    assert "connected components" in evaluation.summary["definitions"]["metrics"]["lesions_reference"]
    pair = [str(pictures / "predictions" / "b.png"), str(pictures / "labels" / "b_first.png")]
    command = ["evaluate", *pair, "--labels", "left=1,right=2", "--percentiles", "95,99"]
    assert run([*command, "--metrics", "boundary,lesions", "--lesion-sizes", "3"]) == 0
    assert {"HD99 (px)", "lesion F1"} <= set(re.split(r"\s{2,}", capsys.readouterr().out.splitlines()[0]))
    assert run([*command, "--metrics", "surface"]) == 2
    assert run([*command, "--lesion-sizes", "big"]) == 2


@pytest.mark.parametrize(
    ("option", "column"),
    [
        (("--lesion-sizes", "3"), "lesion_sensitivity_>3"),
        (("--lesion-iou", "0.5"), "lesion_f1"),
    ],
)
def test_options_of_lesions_add_their_metrics(pictures, capsys, option, column):
    pair = [str(pictures / "predictions" / "a.png"), str(pictures / "labels" / "a_first.png")]
    command = ["evaluate", *pair, "--labels", "left=1,right=2", "--json", *option]
    assert run(command) == 0
    assert column in json.loads(capsys.readouterr().out)["labels"]["left"]["metrics"]


def test_a_challenge_adds_its_scores(tmp_path, capsys):
    lesion = np.zeros((8, 8, 8), np.uint8)
    lesion[2:6, 2:6, 2:6] = 1
    pair = [str(write_volume(tmp_path / f"{name}.nii.gz", lesion)) for name in "ab"]
    assert run(["evaluate", *pair, "--labels", "lesion=1", "--brats", "GLI", "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)["labels"]["lesion"]["metrics"]
    assert metrics["brats_dice"]["mean"] == 1.0


def test_calibration_of_stored_probabilities(pictures):
    probabilities = np.full((3, 6, 8), 0.1, np.float16)
    for case in "ab":
        prediction = np.asarray(Image.open(pictures / "predictions" / f"{case}.png"))
        np.put_along_axis(probabilities, prediction[None].astype(np.int64), 0.8, axis=0)
        path = pictures / "predictions" / "probabilities" / f"{case}.npz"
        path.parent.mkdir(exist_ok=True)
        np.savez(path, probabilities=probabilities)
        probabilities[:] = 0.1
    evaluation = evaluate(pictures, metrics=("calibration",))
    left = [row["brier"] for row in evaluation.rows if row["name"] == "left"]
    # 4 voxels with 0.8, 44 with 0.1: (4·0.04 + 44·0.01) / 48
    assert left == pytest.approx([0.6 / 48] * 2, abs=1e-4)
    # 92 of 96 voxels are right, all with a confidence of 0.8
    (only,) = evaluation.summary["calibration"]["reliability"]
    assert (only["n"], only["accuracy"]) == (96, pytest.approx(92 / 96))
    assert evaluation.summary["calibration"]["ece"] == pytest.approx(92 / 96 - 0.8, abs=1e-3)
    (pictures / "predictions" / "probabilities" / "a.npz").unlink()
    assert "no probabilities of case a" in evaluate(pictures, metrics=("calibration",)).failed["a"]


@pytest.mark.parametrize(("value", "shown"), [(np.nan, "nan to nan"), (80, "80 to 80"), (-3, "-3 to -3")])
def test_no_calibration_is_computed_from_what_are_no_probabilities(pictures, value, shown):
    path = pictures / "predictions" / "probabilities" / "a.npz"
    path.parent.mkdir()
    np.savez(path, probabilities=np.full((3, 6, 8), value, np.float32))  # percentages, logits
    with pytest.raises(DataError, match=rf"a\.npz: expected probabilities from 0 to 1, got {shown}"):
        evaluate(pictures, metrics=("calibration",))


def test_calibration_of_a_large_picture(pictures):
    prediction = np.asarray(Image.open(pictures / "predictions" / "b.png"))
    probabilities = np.full((6, 8, 3), 0.1, np.float32)
    np.put_along_axis(probabilities, prediction[..., None].astype(np.int64), 0.8, axis=-1)
    path = pictures / "predictions" / "probabilities" / "b.tif"
    path.parent.mkdir()
    tifffile.imwrite(
        path, probabilities, tile=(16, 16), metadata=None, photometric="minisblack", planarconfig="contig"
    )
    rows = evaluate(pictures, metrics=("calibration",)).rows
    brier = next(row["brier"] for row in rows if (row["case"], row["name"]) == ("b", "left"))
    assert brier == pytest.approx(0.6 / 48)  # as for the array of a small picture


def test_conventions_of_other_libraries(pictures):
    rows = {row["case"]: row for row in evaluate(pictures, like="monai").rows if row["name"] == "right"}
    assert np.isnan(rows["b"]["hd95"])
    summary = evaluate(pictures, like="monai").summary
    assert summary["definitions"]["like"] == "monai"
    assert summary["labels"]["right"]["metrics"]["hd95"]["mean"] == 5.0  # the missed one counts with 10


def test_misses_are_always_printed(pictures, capsys):
    command = ["evaluate", str(pictures / "predictions"), str(pictures / "labels")]
    command += ["--labels", "left=1,right=2", "--label-suffix", "_first"]
    for misses, text in (("worst", "count as the image's diagonal"), ("exclude", "left out of all statistics")):
        assert run([*command, "--misses", misses]) == 0
        printed = capsys.readouterr().out
        assert "1 of 4 structures missed, 0 spurious; in the means infinite distances" in printed
        assert text in printed


def test_unexpected_errors_and_lack_of_memory_are_listed(pictures, monkeypatch):
    from medseg.evaluation import case_comparison

    real = case_comparison.read_scan

    def broken(path):
        if path.name == "a.png":
            raise MemoryError
        return real(path)

    monkeypatch.setattr(case_comparison, "read_scan", broken)
    evaluation = evaluate(pictures, jobs=2)
    assert evaluation.failed == {"a": "not enough memory"}
    assert evaluation.summary["n_cases"] == 1
    worst = evaluate(pictures, missing="worst")
    assert worst.summary["labels"]["left"]["metrics"]["dice"]["mean"] == 0.5


@pytest.mark.slow
def test_cases_are_compared_in_processes(tmp_path, monkeypatch):
    from medseg.data import parallel

    for folder in ("predictions", "labels"):
        for case in "ab":
            write_volume(tmp_path / folder / f"{case}_first.nii.gz", np.ones((4, 4, 4), np.uint8))
    monkeypatch.setattr(parallel, "PROCESS_SECONDS", 0.0)
    options = EvaluationOptions(labels=parse_labels("x=1"), jobs=2)
    evaluation = evaluate_cases(tmp_path / "predictions", tmp_path / "labels", options=options)
    assert [row["dice"] for row in evaluation.rows] == [1.0, 1.0]
