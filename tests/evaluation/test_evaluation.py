import csv
import json
import re
import shutil

import numpy as np
import pytest
from conftest import write_picture, write_volume

from medseg.cli.main import run
from medseg.data.requested_cases import write_requested
from medseg.errors import ConfigError, DataError, ExistingFileError
from medseg.evaluation import EvaluationOptions, evaluate_cases, parse_labels
from medseg.evaluation.output import write_evaluation_report

IGNORE_MISSING = EvaluationOptions(missing="ignore")


@pytest.fixture
def folders(tmp_path):
    reference = np.zeros((10, 10, 10), np.uint8)
    reference[2:6, 2:6, 2:6] = 4
    prediction = np.zeros((10, 10, 10), np.uint8)
    prediction[2:6, 2:6, 3:7] = 4  # moved by one voxel: overlap 48 of 64
    for case, guess in (("a", prediction), ("b", reference)):
        write_volume(tmp_path / "labels" / f"{case}.nii.gz", reference)
        write_volume(tmp_path / "predictions" / f"{case}.nii.gz", guess)
    write_volume(tmp_path / "labels" / "never_predicted.nii.gz", reference)
    (tmp_path / "predictions" / "medseg.json").write_text(
        json.dumps({"labels": {"names": {"background": [0], "cube": [4]}}})
    )
    return tmp_path


def test_tables_by_hand(folders):
    write_requested(folders / "predictions", ["a", "b"])
    result = evaluate_cases(folders / "predictions", folders / "labels", folders / "out")
    assert [row["case"] for row in result.rows] == ["a", "b"]
    assert result.rows[0]["dice"] == pytest.approx(2 * 48 / 128)
    assert result.rows[0]["iou"] == pytest.approx(48 / 80)
    assert result.rows[0]["label"] == "4"
    assert result.rows[0]["reference_volume_mm3"] == 64
    with (folders / "out" / "cases.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["name"], row["status"]) for row in rows] == [("cube", "scored")] * 2
    summary = json.loads((folders / "out" / "summary.json").read_text())
    assert summary["overall"]["mean_dice"]["mean"] == pytest.approx((0.75 + 1) / 2)
    # IoU over the dataset: (48 + 64) / (80 + 64)
    assert summary["dataset"]["miou_without_background"] == pytest.approx(112 / 144)
    # 32 of 2000 voxels are wrong
    assert summary["dataset"]["pixel_accuracy"] == pytest.approx(1 - 32 / 2000)


def test_a_missed_structure_is_counted_not_averaged_away(folders):
    write_volume(folders / "predictions" / "a.nii.gz", np.zeros((10, 10, 10), np.uint8))
    result = evaluate_cases(folders / "predictions", folders / "labels", options=IGNORE_MISSING)
    hd95 = result.summary["labels"]["cube"]["metrics"]["hd95"]
    # the other case is perfect; the missed cube counts with the image's diagonal
    assert hd95["mean"] == pytest.approx(np.sqrt(300) / 2)
    assert (hd95["n"], hd95["n_inf"], hd95["mean_finite"]) == (2, 1, 0.0)
    assert result.summary["overall"]["structures"]["missed"] == 1
    excluded = evaluate_cases(
        folders / "predictions",
        folders / "labels",
        options=EvaluationOptions(missing="ignore", misses="exclude"),
    )
    assert excluded.summary["labels"]["cube"]["metrics"]["hd95"]["mean"] == 0
    for rows in (result.rows, excluded.rows):  # the table of cases has inf in both
        assert [row["hd95"] for row in rows if row["status"] == "scored"] == [np.inf, 0.0]
    assert result.summary["overall"]["mean_dice"]["mean"] == pytest.approx(0.5)


def test_references_with_a_suffix_and_ignored_pixels(tmp_path):
    reference = np.zeros((8, 8), np.uint8)
    reference[:, 4:] = 1
    reference[0] = 9
    prediction = np.zeros((8, 8), np.uint8)
    prediction[0] = 1  # wrong only for ignored pixels
    prediction[1:, 4:] = 1
    write_picture(tmp_path / "p" / "x.png", prediction)
    write_picture(tmp_path / "r" / "x_1stHO.png", reference)
    labels = {"names": {"background": [0], "half": [1]}, "ignore_value": 9}
    (tmp_path / "p" / "medseg.json").write_text(json.dumps({"labels": labels}))
    result = evaluate_cases(tmp_path / "p", tmp_path / "r")
    assert result.rows[0]["dice"] == 1
    assert result.summary["dataset"]["pixel_accuracy"] == 1


def test_regions_are_unions(tmp_path):
    reference = np.zeros((6, 6, 6), np.uint8)
    reference[1:5, 1:5, 1:5] = 1
    reference[2:4, 2:4, 2:4] = 2
    prediction = np.where(reference == 2, 1, reference).astype(np.uint8)  # core missed, whole right
    write_volume(tmp_path / "p" / "x.nii.gz", prediction)
    write_volume(tmp_path / "r" / "x.nii.gz", reference)
    labels = {
        "names": {"background": [0], "rim": [1], "core": [2]},
        "regions": {"whole": ["rim", "core"], "core": ["core"]},
    }
    (tmp_path / "p" / "medseg.json").write_text(json.dumps({"labels": labels}))
    rows = {row["name"]: row for row in evaluate_cases(tmp_path / "p", tmp_path / "r").rows}
    assert rows["whole"]["dice"] == 1
    assert rows["whole"]["label"] == "1+2"
    assert rows["core"]["dice"] == 0


def test_a_prediction_without_reference_is_an_error(folders):
    write_volume(folders / "predictions" / "extra.nii.gz", np.zeros((10, 10, 10), np.uint8))
    with pytest.raises(DataError, match="extra"):
        evaluate_cases(folders / "predictions", folders / "labels")


def test_differing_grids_fail_with_the_distance(folders):
    affine = np.diag([1, 1, 1.5, 1])
    write_volume(folders / "predictions" / "a.nii.gz", np.zeros((10, 10, 10), np.uint8), affine)
    result = evaluate_cases(folders / "predictions", folders / "labels", options=IGNORE_MISSING)
    assert "4.5 mm" in result.failed["a"]  # the far corner is 9 slices of 0.5 mm off
    assert result.summary["n_cases"] == 1


def test_labels_from_the_command_line():
    labels = parse_labels("organ=1,vessels=2+3")
    assert labels.names == {"background": (0,), "organ": (1,), "vessels": (2, 3)}
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        parse_labels("organ")
    with pytest.raises(ConfigError, match="assigned to several labels"):
        parse_labels("a=1,b=1")
    with pytest.raises(ConfigError, match=r"--labels 'a=1,a=2': 'a' appears twice"):
        parse_labels("a=1,a=2")


def test_a_field_that_labels_lack_is_named(tmp_path):
    (tmp_path / "med.json").write_text('{"labels": {"background": 0}}')
    with pytest.raises(
        ConfigError, match=r"med\.json: not a medseg\.json with labels \(names: Field required\)"
    ):
        parse_labels(str(tmp_path / "med.json"))


def test_labels_are_guessed_from_the_references_without_names(folders):
    (folders / "predictions" / "medseg.json").unlink()
    rows = evaluate_cases(folders / "predictions", folders / "labels", options=IGNORE_MISSING).rows
    assert {row["name"] for row in rows} == {"foreground"}


def test_guessed_labels_include_spurious_ones(folders):
    (folders / "predictions" / "medseg.json").unlink()
    spurious = np.zeros((10, 10, 10), np.uint8)
    spurious[2:6, 2:6, 2:6], spurious[9, 9, 9] = 4, 7
    write_volume(folders / "predictions" / "b.nii.gz", spurious)
    result = evaluate_cases(folders / "predictions", folders / "labels", options=IGNORE_MISSING)
    assert result.summary["labels"]["label_7"]["structures"]["spurious"] == 1
    for case in "ab":  # other codes are not spurious structures
        write_volume(folders / "predictions" / f"{case}.nii.gz", np.full((10, 10, 10), 255, np.uint8))
    with pytest.raises(DataError, match="label values without a name: 255"):
        evaluate_cases(folders / "predictions", folders / "labels", options=IGNORE_MISSING)


def test_a_case_without_prediction_is_an_error(folders):
    with pytest.raises(DataError, match=r"1 of 3 references has no prediction[^:]*\(1\):\s+never_predicted"):
        evaluate_cases(folders / "predictions", folders / "labels", folders / "out")
    assert not (folders / "out").exists()
    write_requested(folders / "predictions", ["b", "never_predicted"])
    (folders / "predictions" / "a.nii.gz").unlink()
    with pytest.raises(DataError, match="1 of 2 requested cases has no prediction"):
        evaluate_cases(folders / "predictions", folders / "labels")


def test_a_failed_case_counts_as_missing(folders, capsys):
    write_requested(folders / "predictions", ["a", "b", "never_predicted"])
    (folders / "predictions" / "failures.csv").write_text("case,error\nnever_predicted,out of memory\n")
    with pytest.raises(DataError, match=r"never_predicted: failures\.csv: out of memory"):
        evaluate_cases(folders / "predictions", folders / "labels")
    command = ["evaluate", str(folders / "predictions"), str(folders / "labels"), "--missing", "worst"]
    assert run([*command, "--output", str(folders / "out")]) == 0
    printed = capsys.readouterr().out
    assert "2 of 3 references scored; 1 without a prediction, counted with the worst scores" in printed
    assert "missing: never_predicted: failures.csv: out of memory" in printed
    summary = json.loads((folders / "out" / "summary.json").read_text())
    assert summary["coverage"]["missing"] == {"never_predicted": "failures.csv: out of memory"}
    assert summary["overall"]["mean_dice"]["mean"] == pytest.approx((0.75 + 1 + 0) / 3)
    assert summary["labels"]["cube"]["metrics"]["hd95"]["n_inf"] == 1
    # the missing case's 64 and 936 voxels are wrong for their classes: 48 + 64 of 80 + 64 + 64
    assert summary["dataset"]["miou_without_background"] == pytest.approx(112 / 208)
    assert summary["dataset"]["pixel_accuracy"] == pytest.approx((2000 - 32) / 3000)


def test_worst_scores_include_labels_absent_from_a_missing_case(folders):
    write_volume(folders / "labels" / "never_predicted.nii.gz", np.zeros((10, 10, 10), np.uint8))
    options = EvaluationOptions(missing="worst")
    summary = evaluate_cases(folders / "predictions", folders / "labels", options=options).summary
    assert summary["labels"]["cube"]["metrics"]["dice"]["mean"] == pytest.approx((0.75 + 1 + 0) / 3)


def test_cases_left_out_are_counted_and_listed(folders, capsys):
    command = ["evaluate", str(folders / "predictions"), str(folders / "labels"), "--missing", "ignore"]
    assert run([*command, "--output", str(folders / "out")]) == 0
    assert "2 of 3 references scored; 1 without a prediction, left out" in capsys.readouterr().out
    with (folders / "out" / "cases.csv").open() as stream:
        rows = {row["case"]: row for row in csv.DictReader(stream)}
    assert (rows["never_predicted"]["status"], rows["never_predicted"]["dice"]) == ("missing", "nan")


def test_references_that_were_not_requested_are_counted(folders, capsys):
    write_requested(folders / "predictions", ["a"])
    write_requested(folders / "predictions", ["b"])  # a second run into the same folder
    command = ["evaluate", str(folders / "predictions"), str(folders / "labels")]
    assert run([*command, "--output", str(folders / "out")]) == 0
    assert "2 of 3 references scored; 1 was not requested" in capsys.readouterr().out


@pytest.mark.parametrize("missing", ["ignore", "worst"])
def test_one_unreadable_prediction_does_not_end_the_evaluation(folders, missing, capsys):
    (folders / "predictions" / "a.nii.gz").write_bytes(b"not a label map")
    write_requested(folders / "predictions", ["a", "b"])
    command = ["evaluate", str(folders / "predictions"), str(folders / "labels"), "--missing", missing]
    assert run([*command, "--output", str(folders / "out")]) == 4
    captured = capsys.readouterr()
    assert "1 of 3 references scored; 1 failed" in captured.out
    assert "failed: a: " in captured.err
    summary = json.loads((folders / "out" / "summary.json").read_text())
    assert list(summary["coverage"]["failed"]) == ["a"]
    assert summary["overall"]["mean_dice"]["mean"] == (0.5 if missing == "worst" else 1)
    with (folders / "out" / "cases.csv").open() as stream:
        assert [row["status"] for row in csv.DictReader(stream)] == ["failed", "scored"]


def test_an_unreadable_reference_never_counts_as_worst(folders, capsys):
    (folders / "labels" / "a.nii.gz").write_bytes(b"not a label map")
    command = ["evaluate", str(folders / "predictions"), str(folders / "labels"), "--missing", "worst"]
    assert run([*command, "--output", str(folders / "out")]) == 4
    text = "1 failed, left out of the means; 1 without a prediction, counted with the worst scores"
    assert text in capsys.readouterr().out
    summary = json.loads((folders / "out" / "summary.json").read_text())
    assert (summary["coverage"]["unscored"], summary["n_cases"]) == (["a"], 2)
    assert "1 could not be compared, left out." in (folders / "out" / "table.md").read_text()
    page = (folders / "out" / "report.html").read_text()
    assert "not readable or not comparable, left out of every mean: a." in page


def test_an_unreadable_reference_is_listed(folders):
    (folders / "labels" / "a.nii.gz").write_bytes(b"not a label map")
    result = evaluate_cases(
        folders / "predictions", folders / "labels", options=EvaluationOptions(missing="worst")
    )
    assert list(result.failed) == ["a"]
    assert np.isnan(result.rows[0]["dice"])


def test_nothing_is_written_if_no_case_can_be_scored(folders):
    for case in "ab":
        (folders / "predictions" / f"{case}.nii.gz").write_bytes(b"")
    write_requested(folders / "predictions", ["a", "b"])
    with pytest.raises(DataError, match=r"no case can be scored \(2\)"):
        evaluate_cases(folders / "predictions", folders / "labels", folders / "out")
    assert not (folders / "out").exists()


def test_an_ignore_value_only_in_the_prediction_is_a_wrong_pixel(tmp_path):
    reference = np.array([[0, 0, 1, 1]], np.uint8)
    write_picture(tmp_path / "p" / "x.png", np.array([[9, 0, 1, 9]], np.uint8))
    write_picture(tmp_path / "r" / "x.png", reference)
    options = EvaluationOptions(parse_labels("half=1"), ignore_value=9)
    result = evaluate_cases(tmp_path / "p", tmp_path / "r", options=options)
    assert result.rows[0]["dice"] == pytest.approx(2 / 3)  # tp 1, fn 1
    assert result.summary["dataset"]["pixel_accuracy"] == 0.5
    assert result.summary["dataset"]["miou_with_background"] == 0.5


def test_values_without_a_name_follow_the_options(tmp_path, capsys):
    write_picture(tmp_path / "p" / "x.png", np.array([[0, 0, 1, 1]], np.uint8))
    write_picture(tmp_path / "r" / "x.png", np.array([[7, 0, 7, 1]], np.uint8))
    command = ["evaluate", str(tmp_path / "p"), str(tmp_path / "r"), "--labels", "half=1"]
    command += ["--output", str(tmp_path / "out")]
    assert run(command) == 3
    message = capsys.readouterr().err
    assert "--others background" in message
    assert "data." not in message.replace(str(tmp_path), "")
    expected = {"background": 3 / 4, "ignore": 1.0}  # one false positive, or two pixels that do not count
    for others, accuracy in expected.items():
        assert run([*command, "--others", others]) == 0
        summary = json.loads((tmp_path / "out" / "summary.json").read_text())
        assert summary["dataset"]["pixel_accuracy"] == accuracy
    assert run([*command, "--ignore", "7"]) == 0
    assert run([*command, "--ignore", "1"]) == 2
    assert "--ignore 1: " in capsys.readouterr().err


def test_two_files_are_compared(folders, capsys):
    prediction, reference = folders / "predictions" / "a.nii.gz", folders / "labels" / "b.nii.gz"
    assert run(["evaluate", str(prediction), str(reference), "--output", str(folders / "out")]) == 0
    printed = capsys.readouterr().out
    assert "mean Dice 0.7500\n" in printed  # one case has no interval
    assert "precision" in printed
    assert "1 of 1 references scored" in printed
    run(["evaluate", str(prediction), str(folders / "labels"), "--output", str(folders / "out")])
    assert "1 of 3 references scored; 2 were not requested" in capsys.readouterr().out
    assert run(["evaluate", str(folders / "labels"), str(prediction), "--output", str(folders / "out")]) == 3
    assert "give two folders" in capsys.readouterr().err


def test_pictures_without_a_spacing_have_no_millimeters(tmp_path, capsys):
    for folder in "pr":
        write_picture(tmp_path / folder / "001.png", np.eye(8, dtype=np.uint8))
    assert run(["evaluate", str(tmp_path / "p"), str(tmp_path / "r"), "--output", str(tmp_path / "out")]) == 0
    assert "HD95 (px)" in capsys.readouterr().out
    header = (tmp_path / "out" / "cases.csv").read_text().splitlines()[0]
    assert "reference_area_px" in header
    assert "mm" not in header
    definitions = json.loads((tmp_path / "out" / "summary.json").read_text())["definitions"]
    assert definitions["tolerance_px"] == 1.0
    assert not [key for key in definitions if key.endswith("mm")]


def test_a_case_called_001_stays_text(tmp_path):
    for folder in "pr":
        write_picture(tmp_path / folder / "001.png", np.eye(8, dtype=np.uint8))
    evaluate_cases(tmp_path / "p", tmp_path / "r", tmp_path / "out")
    with (tmp_path / "out" / "cases.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream, quoting=csv.QUOTE_NONNUMERIC))
    assert (rows[0]["case"], rows[0]["label"], rows[0]["dice"]) == ("001", "1", 1.0)


def test_foreign_tables_are_not_replaced(folders):
    table = folders / "labels" / "cases.csv"
    table.write_text("id,image,label\na,a.nii.gz,b.nii.gz\n")
    with pytest.raises(ExistingFileError, match=r"cases\.csv: exists and was not written by medseg evaluate"):
        evaluate_cases(folders / "predictions", folders / "labels", folders / "labels", IGNORE_MISSING)
    assert table.read_text().startswith("id,image")
    for _ in range(2):  # tables of an evaluation are
        evaluate_cases(folders / "predictions", folders / "labels", folders / "out", IGNORE_MISSING)


def test_a_failed_evaluation_leaves_the_earlier_tables_and_says_so(folders, caplog):
    out = folders / "out"
    evaluate_cases(folders / "predictions", folders / "labels", out, IGNORE_MISSING)
    (out / "report.html").write_text('<meta name="generator" content="medseg 0">')
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(DataError, match="has no prediction"):
        evaluate_cases(folders / "predictions", folders / "labels", out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert caplog.messages == [f"{out}: nothing was written; the tables there are of an earlier evaluation"]


def test_new_tables_replace_all_earlier_ones(folders):
    out = folders / "out"
    evaluate_cases(folders / "predictions", folders / "labels", out, IGNORE_MISSING)
    evaluation = evaluate_cases(folders / "predictions", folders / "labels", out, IGNORE_MISSING)
    write_evaluation_report(out / "report.html", evaluation)
    evaluate_cases(folders / "predictions", folders / "labels", out, IGNORE_MISSING)
    assert not (out / "report.html").exists()  # it would show the earlier scores
    assert (out / "cases.csv").is_file()


def test_predictions_that_are_the_references_are_refused(folders, capsys):
    assert run(["evaluate", str(folders / "labels"), str(folders / "labels")]) == 2
    assert "every prediction is the same file as its reference" in capsys.readouterr().err
    (folders / "links").symlink_to(folders / "labels")
    with pytest.raises(ConfigError, match="the same file"):
        evaluate_cases(folders / "links", folders / "labels")


def test_one_folder_with_two_observers_is_no_mistake(tmp_path):
    for suffix in ("_1", "_2"):
        write_picture(tmp_path / f"x{suffix}.png", np.eye(4, dtype=np.uint8))
    options = EvaluationOptions(label_suffix="_1", prediction_suffix="_2")
    assert evaluate_cases(tmp_path, tmp_path, options=options).rows[0]["dice"] == 1


def test_copies_of_the_references_are_named(folders, capsys):
    shutil.copytree(folders / "labels", folders / "copies")
    evaluation = evaluate_cases(folders / "copies", folders / "labels")
    copies = "predictions are equal to the references in all 3 cases: are these copies of the references?"
    assert evaluation.summary["notes"] == [copies]
    run(["evaluate", str(folders / "copies"), str(folders / "labels")])
    assert f"note: {copies}" in capsys.readouterr().out
    evaluation = evaluate_cases(folders / "predictions", folders / "labels", options=IGNORE_MISSING)
    assert evaluation.summary["notes"] == []


def test_predictions_without_a_reference_can_be_left_out(folders, capsys):
    write_volume(folders / "predictions" / "extra.nii.gz", np.zeros((10, 10, 10), np.uint8))
    command = ["evaluate", str(folders / "predictions"), str(folders / "labels"), "--missing", "ignore"]
    assert run(command) == 3
    assert "--extra ignore" in capsys.readouterr().err
    assert run([*command, "--extra", "ignore", "--output", str(folders / "out")]) == 0
    printed = capsys.readouterr().out
    assert "1 prediction has no reference, ignored\n  no reference: extra" in printed
    assert json.loads((folders / "out" / "summary.json").read_text())["coverage"]["extra"] == ["extra"]
    assert "1 prediction without a reference was left out: extra" in re.sub(
        "<[^>]*>", "", (folders / "out" / "report.html").read_text()
    )


def test_no_prediction_with_a_reference_is_always_an_error(folders):
    (folders / "others").mkdir()
    write_volume(folders / "others" / "extra.nii.gz", np.zeros((10, 10, 10), np.uint8))
    with pytest.raises(DataError, match="without exactly one reference"):
        evaluate_cases(folders / "others", folders / "labels", options=EvaluationOptions(extra="ignore"))


def test_two_label_maps_of_one_case_are_an_error(folders):
    write_volume(folders / "predictions" / "a.nii", np.zeros((10, 10, 10), np.uint8))
    with pytest.raises(DataError, match="several label maps of one name: a"):
        evaluate_cases(folders / "predictions", folders / "labels")


def test_volumes_and_pictures_together_fail(folders):
    for folder in ("predictions", "labels"):
        write_picture(folders / folder / "z.png", np.full((4, 4), 4, np.uint8))
    result = evaluate_cases(folders / "predictions", folders / "labels", folders / "out", IGNORE_MISSING)
    assert "reference_area_px" in result.failed["z"]
    assert result.summary["n_cases"] == 2


def test_given_values_that_no_label_map_contains_are_named(folders, caplog):
    given = EvaluationOptions(missing="ignore", labels=parse_labels("cube=4,ball=7+8"), ignore_value=255)
    evaluate_cases(folders / "predictions", folders / "labels", options=given)
    assert caplog.messages == [
        "--labels: no label map contains ball=7+8; they contain the values 0, 4",
        "--ignore: no label map contains 255; they contain the values 0, 4",
    ]
    caplog.clear()
    ignored = np.zeros((10, 10, 10), np.uint8)
    ignored[0], ignored[5] = 255, 8
    write_volume(folders / "labels" / "b.nii.gz", ignored)
    evaluate_cases(folders / "predictions", folders / "labels", options=given)
    assert caplog.messages == []
