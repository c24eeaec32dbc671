"""Scans outside the images folder, existing results and files of the user that a command does not change."""

import json

import numpy as np
import pytest
import tiny_model
from conftest import write_volume
from series import write_dicom
from tiny_model import contents

from medseg.cli.main import run
from medseg.data.io.multichannel import describe_constant_image
from medseg.data.io.readers import read_scan
from medseg.inference.batch.input_discovery import search_inputs
from medseg.inference.batch.outputs.provenance import read_record

model = tiny_model.model


def write_scan(path, seed=0):
    return write_volume(path, np.random.default_rng(seed).normal(0, 100, (10, 9, 8)).astype(np.int16))


def infer(model, *arguments):
    return run(["infer", *map(str, arguments), "--model", str(model), "--device", "cpu", "--backend", "torch"])


def test_scans_outside_the_images_folder_are_listed_by_name(model, tmp_path, capsys):
    folder = tmp_path / "hx"
    for name in ("images/001", "more/003", "sub1/004", "006", "labels/001"):
        write_scan(folder / f"{name}.nii.gz")
    assert infer(model, folder, "--output", folder / "out") == 0
    error = capsys.readouterr().err
    assert "001: done" in error
    listed = [line.strip() for line in error.splitlines() if line.startswith("  ")]
    assert listed == [str(folder / f"{name}.nii.gz") for name in ("006", "more/003", "sub1/004")]
    assert "To segment them, give these files" in error
    found = search_inputs([folder, folder / "more"], output=folder / "out")  # named, so taken
    assert [case.id for case in found.cases] == ["001", "003"]
    assert [path.name for path in found.outside] == ["006.nii.gz", "004.nii.gz"]


def test_series_beside_an_images_folder_and_below_a_series_are_listed(tmp_path):
    write_scan(tmp_path / "study" / "images" / "001.nii.gz")
    write_dicom(tmp_path / "study" / "a", np.zeros((4, 8, 8), np.int16))
    found = search_inputs([tmp_path / "study"])
    assert [case.id for case in found.cases] == ["001"]
    assert found.outside == (tmp_path / "study" / "a",)
    write_scan(tmp_path / "study" / "a" / "later" / "002.nii.gz")
    found = search_inputs([tmp_path / "study" / "a"])
    assert [case.id for case in found.cases] == ["a"]
    assert found.outside == (tmp_path / "study" / "a" / "later" / "002.nii.gz",)


def test_a_layout_with_nothing_beside_its_scans_lists_nothing(tmp_path):
    for name in ("images/001", "labels/001"):
        write_scan(tmp_path / "a" / f"{name}.nii.gz")
    for name in (
        "imagesTr/001_0000",
        "imagesTr/001_0001",
        "imagesTs/002_0000",
        "imagesTs/002_0001",
        "labelsTr/001",
    ):
        write_scan(tmp_path / "b" / f"{name}.nii.gz")
    description = {"channel_names": {"0": "a", "1": "b"}, "labels": {"background": 0, "x": 1}, "numTraining": 1}
    (tmp_path / "b" / "dataset.json").write_text(json.dumps({**description, "file_ending": ".nii.gz"}))
    assert search_inputs([tmp_path / "a"]).outside == ()
    found = search_inputs([tmp_path / "b"])
    assert found.outside == ()
    assert {len(case.images) for case in found.cases} == {2}


def test_a_result_that_is_not_replaced_does_not_count_as_missing(model, tmp_path, capsys):
    scan, out = write_scan(tmp_path / "in" / "s0.nii.gz"), tmp_path / "out"
    reference = np.zeros((10, 9, 8), np.uint8)
    reference[2:5, 2:5, 2:5] = 1
    write_volume(tmp_path / "ref" / "s0.nii.gz", reference)
    assert infer(model, scan, "--output", out) == 0
    before = contents(out)
    assert infer(model, scan, "--output", out, "--set", "overlap=0.75") == 4
    captured = capsys.readouterr()
    assert "0 done, 0 skipped, 1 kept, 0 failed" in captured.out
    assert "1 kept (made with other settings: overlap 0.5 → 0.75); --overwrite replaces them" in captured.err
    assert contents(out) == before
    command = ["evaluate", str(out), str(tmp_path / "ref"), "--output", str(tmp_path / "metrics")]
    assert run([*command, "--missing", "worst"]) == 0
    assert "1 of 1 references scored" in capsys.readouterr().out
    scan.write_bytes(b"")  # not a refusal: the result that was asked for is not there
    assert infer(model, scan, "--output", out, "--overwrite") == 4
    assert (out / "failures.csv").is_file()


def test_an_evaluation_that_compared_nothing_does_not_end_as_a_success(tmp_path, capsys):
    write_volume(tmp_path / "ref" / "s0.nii.gz", np.eye(8, dtype=np.uint8)[None].repeat(4, axis=0))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "requested.json").write_text('{"cases": ["s0"]}')
    command = ["evaluate", str(tmp_path / "out"), str(tmp_path / "ref"), "--output", str(tmp_path / "metrics")]
    assert run([*command, "--labels", "a=1", "--missing", "worst"]) == 3
    captured = capsys.readouterr()
    assert "0 of 1 references scored" in captured.out
    assert "no prediction was compared" in captured.err
    assert (tmp_path / "metrics" / "cases.csv").is_file()


@pytest.mark.parametrize("layout", ["flat", "nnunet"])
def test_a_label_folder_given_as_output_is_unchanged(model, tmp_path, capsys, layout):
    for i in range(2):
        write_scan(tmp_path / "images" / f"s{i}.nii.gz", seed=i)
        write_scan(tmp_path / "labels" / f"s{i}.nii.gz", seed=i)
    before = contents(tmp_path)
    code = infer(model, tmp_path / "images", "--output", tmp_path / "labels", "--layout", layout)
    assert code == 4
    assert capsys.readouterr().err.count("is never replaced") == 2
    assert contents(tmp_path) == before
    write_scan(tmp_path / "images" / "s2.nii.gz", seed=2)
    assert infer(model, tmp_path / "images", "--output", tmp_path / "labels") == 4  # s2 is done there
    assert (tmp_path / "labels" / "failures.csv").read_text().count("never replaced") == 2


def test_a_constant_scan_is_noted(model, tmp_path, capsys):
    scan = write_volume(tmp_path / "empty.nii.gz", np.zeros((10, 9, 8), np.int16))
    assert infer(model, scan, write_scan(tmp_path / "full.nii.gz"), "--output", tmp_path / "out") == 0
    error = capsys.readouterr().err
    assert error.count("every voxel has the value 0") == 1
    notes = {case: read_record(tmp_path / "out", case).content.get("notes") for case in ("empty", "full")}
    assert notes == {"empty": ["every voxel has the value 0"], "full": None}
    assert describe_constant_image(read_scan(tmp_path / "full.nii.gz")) is None
