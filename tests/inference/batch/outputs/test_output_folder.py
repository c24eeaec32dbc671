"""Tests of the output folder: input files, files of others and results of other settings are not replaced."""

import csv
import errno
import json
import os
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_model
from conftest import write_picture, write_volume
from lock_holder import locked
from tiny_model import OVERWRITE, contents, save_tiny

from medseg.cli.main import run
from medseg.data.cases import Case
from medseg.data.io.readers import is_image_file, output_suffix, read_scan
from medseg.data.labels.schema import LabelSchema
from medseg.data.layouts.label_map_detection import find_label_maps
from medseg.errors import ConfigError, DiskFullError
from medseg.inference.batch.batch_inference import infer_cases
from medseg.inference.batch.input_discovery import find_inputs, run_cases, with_foregrounds
from medseg.inference.batch.options import BatchOptions
from medseg.inference.batch.outputs.provenance import describe_changes, find_record, read_record
from medseg.inference.model.predictor import Predictor
from medseg.system.locks import LOCK_NAME

model, predictor, scans = tiny_model.model, tiny_model.predictor, tiny_model.scans


# --- inputs and foreign files -------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["same folder", "linked folder", "link", "hard link"])
def test_a_scan_is_never_replaced_by_its_label_map(model, scans, tmp_path, capsys, way):
    output = scans
    if way != "same folder":
        output = tmp_path / "out"
    if way == "linked folder":
        output.symlink_to(scans, target_is_directory=True)
    elif way == "link":
        output.mkdir()
        (output / "s0.nii.gz").symlink_to(scans / "s0.nii.gz")
    elif way == "hard link":
        output.mkdir()
        os.link(scans / "s0.nii.gz", output / "s0.nii.gz")
    before = contents(scans)
    command = ["infer", str(scans / "s0.nii.gz"), "--model", str(model), "--output", str(output), "--overwrite"]
    assert run(command) == 2
    assert "outputs would replace input files" in capsys.readouterr().err
    assert contents(scans) == before


def test_labels_and_masks_that_are_read_are_never_replaced(predictor, scans, tmp_path):
    label = write_volume(tmp_path / "out" / "s0.nii.gz", np.ones((10, 9, 8), np.uint8))
    case = Case("s0", scans / "s0.nii.gz", label)
    with pytest.raises(ConfigError, match="would replace input files"):
        infer_cases(predictor, [case], tmp_path / "out", BatchOptions(overlays=True, overwrite=True))
    with pytest.raises(ConfigError, match="would replace input files"):
        infer_cases(
            predictor,
            [replace(case, label=None, foreground=label)],
            tmp_path / "out",
            OVERWRITE,
        )
    assert np.asarray(read_scan(label).array).all()


def test_the_data_file_of_a_header_is_never_replaced(predictor, tmp_path):
    # MetaImage with its voxels in a separate file, which has the name of the output
    (tmp_path / "out").mkdir()
    suffix = output_suffix(tmp_path / "scan.mhd")
    data = tmp_path / "out" / f"scan{suffix}"
    data.write_bytes(bytes(8 * 8 * 8))
    header = tmp_path / "scan.mhd"
    header.write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 8 8 8\nElementType = MET_UCHAR\n"
        f"ElementDataFile = out/{data.name}\n"
    )
    with pytest.raises(ConfigError, match="would replace input files"):
        infer_cases(predictor, [Case("scan", header)], tmp_path / "out", OVERWRITE)
    assert data.read_bytes() == bytes(8 * 8 * 8)


def test_an_earlier_output_used_as_an_input_is_not_replaced(predictor, scans, tmp_path):
    out = tmp_path / "out"
    infer_cases(predictor, find_inputs([scans]), out)  # now records name out/s0.nii.gz
    before = (out / "s0.nii.gz").read_bytes()
    with pytest.raises(ConfigError, match="would replace input files"):
        infer_cases(predictor, [Case("s0", out / "s0.nii.gz")], out, OVERWRITE)
    assert (out / "s0.nii.gz").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["s0.nii.gz", "overlays/s0.png", "probabilities/s0.nii.gz"])
def test_a_file_that_medseg_did_not_write_is_kept(predictor, scans, tmp_path, name):
    foreign = tmp_path / "out" / name
    foreign.parent.mkdir(parents=True)
    foreign.write_text("drawn in three hours")
    options = BatchOptions(probabilities=True, overlays=True)
    outcomes = infer_cases(predictor, find_inputs([scans]), tmp_path / "out", replace(options, overwrite=True))
    assert [o.status for o in outcomes] == ["failed", "done", "done"]
    assert "never replaced" in (outcomes[0].error or "")
    assert foreign.read_text() == "drawn in three hours"


@pytest.mark.parametrize(
    ("layout", "name"),
    [("nnunet", "dataset.json"), ("bids", "dataset_description.json"), ("flat", "failures.csv")],
)
def test_existing_files_of_a_dataset_are_kept(predictor, scans, tmp_path, layout, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text('{"channel_names": {"0": "CT"}}\n')
    with pytest.raises(ConfigError, match="medseg did not write it"):
        infer_cases(
            predictor,
            find_inputs([scans]),
            tmp_path / "out",
            BatchOptions(layout=layout, overwrite=True),
        )
    assert "CT" in (tmp_path / "out" / name).read_text()


def test_the_folder_of_a_series_or_stack_takes_no_outputs(tmp_path):
    for i in range(4):
        write_picture(tmp_path / "stack" / f"{i}.png", np.full((9, 9), i, np.uint8))
    predictor = Predictor(save_tiny(tmp_path / "m.safetensors"), device="cpu", backend="torch", amp="off")
    with pytest.raises(ConfigError, match="a folder of one scan"):
        infer_cases(predictor, [Case("stack", tmp_path / "stack")], tmp_path / "stack")
    assert len(list((tmp_path / "stack").iterdir())) == 4


@pytest.mark.parametrize(
    ("where", "left"),
    [
        ("medseg.inference.batch.case_job.write_probabilities", False),
        ("medseg.inference.batch.outputs.case_files.CaseFiles.record", True),
    ],
)
def test_own_results_are_replaced_on_request_and_after_an_interruption(
    predictor, scans, tmp_path, monkeypatch, where, left
):
    out, cases, options = tmp_path / "out", find_inputs([scans]), BatchOptions(probabilities=True)

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(where, killed)  # before any file has its final name, or after all have
    with pytest.raises(KeyboardInterrupt):
        infer_cases(predictor, cases, out, options)
    assert (out / "s0.nii.gz").exists() == left
    assert not list(out.rglob(".tmp-*"))
    monkeypatch.undo()
    assert [o.status for o in infer_cases(predictor, cases, out, options)] == ["done"] * 3
    assert [o.status for o in infer_cases(predictor, cases, out, options)] == ["skipped"] * 3
    assert [o.status for o in infer_cases(predictor, cases, out)] == ["skipped"] * 3
    assert [o.status for o in infer_cases(predictor, cases, out, OVERWRITE)] == ["done"] * 3
    assert [o.status for o in infer_cases(predictor, cases, out, options)] == ["skipped"] * 3


# --- other settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"settings": {"flips": [0, 1]}}, r"settings: flips \[\] → \[0, 1\]"),
        ({"settings": {"overlap": 0.25}}, r"settings: overlap 0\.5 → 0\.25"),
        ({"settings": {"postprocess": {"largest": ["a"]}}}, r"postprocess .* → "),
        ({"amp": "bf16"}, "precision float32 → bfloat16"),
        ({"backend": "openvino"}, "backend torch → openvino"),
    ],
)
def test_a_result_of_other_settings_is_kept(model, predictor, scans, tmp_path, options, named):
    if options.get("backend") == "openvino":
        pytest.importorskip("openvino")
    cases, out = find_inputs([scans / "s0.nii.gz"]), tmp_path / "out"
    infer_cases(predictor, cases, out)
    before = (out / "s0.nii.gz").read_bytes()
    other = Predictor(model, **{"device": "cpu", "backend": "torch", "amp": "off", **options})
    (outcome,) = infer_cases(other, cases, out)
    assert outcome.status == "kept"
    assert re.search(named, outcome.error or "")
    assert not (out / "failures.csv").exists()
    assert (out / "s0.nii.gz").read_bytes() == before
    assert infer_cases(other, cases, out, OVERWRITE)[0].status == "done"
    assert infer_cases(other, cases, out)[0].status == "skipped"


def test_a_result_of_another_model_or_foreground_is_kept(predictor, scans, tmp_path):
    cases, out = find_inputs([scans / "s0.nii.gz"]), tmp_path / "out"
    infer_cases(predictor, cases, out)
    write_volume(tmp_path / "masks" / "s0.nii.gz", np.ones((10, 9, 8), np.uint8))
    (outcome,) = infer_cases(predictor, with_foregrounds(cases, tmp_path / "masks"), out)
    assert "the foreground mask differs" in (outcome.error or "")
    second = save_tiny(tmp_path / "second.safetensors", seed=1)
    (outcome,) = infer_cases(Predictor(second, device="cpu", backend="torch", amp="off"), cases, out)
    assert "model differs" in (outcome.error or "")


def test_probabilities_of_a_replaced_result_do_not_count_as_current(model, predictor, scans, tmp_path):
    cases, out, options = find_inputs([scans / "s0.nii.gz"]), tmp_path / "out", BatchOptions(probabilities=True)
    infer_cases(predictor, cases, out, options)
    mirrored = Predictor(model, device="cpu", backend="torch", amp="off", settings={"flips": [0]})
    (outcome,) = infer_cases(mirrored, cases, out, OVERWRITE)
    assert outcome.notes == ("files of the replaced result remain: probabilities/s0.nii.gz",)
    old = (out / "probabilities" / "s0.nii.gz").read_bytes()
    (outcome,) = infer_cases(mirrored, cases, out, options)
    assert (outcome.status, outcome.notes) == ("done", ())
    assert (out / "probabilities" / "s0.nii.gz").read_bytes() != old
    assert infer_cases(mirrored, cases, out, options)[0].status == "skipped"


def test_settings_that_only_save_memory_change_nothing(model, predictor, scans, tmp_path):
    cases = find_inputs([scans / "s0.nii.gz"])
    infer_cases(predictor, cases, tmp_path / "out")
    settings = {"batch_size": 1, "large_above": 1e6}
    smaller = Predictor(model, device="cpu", backend="torch", amp="off", settings=settings)
    assert infer_cases(smaller, cases, tmp_path / "out")[0].status == "skipped"


@pytest.mark.slow
def test_results_without_recorded_settings_are_not_current(predictor, scans, tmp_path):
    cases, out = find_inputs([scans / "s0.nii.gz"]), tmp_path / "out"
    infer_cases(predictor, cases, out, BatchOptions(overlays=True))
    path = out / "provenance" / "s0.json"
    record = json.loads(path.read_text())
    for key in ("made_of", "made_of_sha256", "files"):
        del record[key]
    path.write_text(json.dumps(record))
    (outcome,) = infer_cases(predictor, cases, out)
    assert "did not record its settings" in (outcome.error or "")
    again = infer_cases(predictor, cases, out, BatchOptions(overlays=True, overwrite=True))
    assert again[0].status == "done"


def test_a_setting_that_only_one_version_knows_counts_as_its_default():
    then = {"input": "x", "models": [{"model": "m", "inference": [{"overlap": 0.5}]}]}
    now = {"input": "x", "models": [{"model": "m", "inference": [{"overlap": 0.5, "blend": "gaussian"}]}]}
    assert describe_changes(then, now) == []
    now["models"][0]["inference"][0]["blend"] = "exact"
    assert describe_changes(then, now) == ["blend gaussian → exact"]


def test_label_maps_with_other_labels_stay_readable(predictor, scans, tmp_path):
    out = tmp_path / "out"
    infer_cases(predictor, find_inputs([scans / "s0.nii.gz"]), out)
    other = save_tiny(tmp_path / "other.safetensors", labels=LabelSchema(names={"no": (0,), "liver": (1,)}))
    second = Predictor(other, device="cpu", backend="torch", amp="off")
    with pytest.raises(ConfigError, match="other labels"):  # s0 would be read with liver's names
        infer_cases(second, find_inputs([scans / "s1.nii.gz"]), out, OVERWRITE)
    assert infer_cases(second, find_inputs([scans / "s0.nii.gz"]), out, OVERWRITE)[0].status == "done"


def test_another_layout_in_the_same_folder_does_not_leave_two_maps_of_a_case(predictor, scans, tmp_path):
    cases, out = find_inputs([scans / "s0.nii.gz"]), tmp_path / "out"
    infer_cases(predictor, cases, out)
    (outcome,) = infer_cases(predictor, cases, out, BatchOptions(layout="bids", overwrite=True))
    assert "with this --layout" in (outcome.error or "")
    assert not list(out.rglob("*_dseg*"))


def test_a_volume_given_to_a_model_of_pictures_leaves_no_description(tmp_path, scans, caplog):
    (tmp_path / "run").mkdir()
    model = save_tiny(tmp_path / "run" / "model.safetensors", dims=2)
    segmenter = Predictor(model, device="cpu", backend="torch", amp="off")
    with caplog.at_level("ERROR", logger="medseg"):
        (outcome,) = infer_cases(segmenter, find_inputs([scans / "s0.nii.gz"]), tmp_path / "out")
    error = f"a volume, but the model {tmp_path / 'run'} takes pictures. Use a model trained on volumes"
    assert error in (outcome.error or "")
    assert error in caplog.text
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"requested.json", "failures.csv"}


# --- failures -----------------------------------------------------------------------------------------------


def test_failures_of_earlier_runs_stay_listed_until_they_have_a_result(predictor, scans, tmp_path):
    out, broken = tmp_path / "out", scans / "broken.nii.gz"
    broken.write_bytes(b"")
    infer_cases(predictor, find_inputs([broken]), out)
    infer_cases(predictor, find_inputs([scans / "s0.nii.gz"]), out)
    with (out / "failures.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["case"] for row in rows] == ["broken"]
    assert list(rows[0]) == ["case", "error"]
    shutil.copy(scans / "s1.nii.gz", broken)
    infer_cases(predictor, find_inputs([broken]), out)
    assert not (out / "failures.csv").exists()


def test_a_full_disk_ends_the_batch_and_names_the_file(predictor, scans, tmp_path, monkeypatch, capsys):
    from medseg.data.io.nifti import NiftiReader

    runs = []
    network = Predictor.run

    def counted(self, *args, **kwargs):
        runs.append(1)
        return network(self, *args, **kwargs)

    def full(self, path, *args):
        Path(path).write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Predictor, "run", counted)
    monkeypatch.setattr(NiftiReader, "write_label_map", full)
    for i in range(3, 9):
        shutil.copy(scans / "s0.nii.gz", scans / f"s{i}.nii.gz")
    with pytest.raises(DiskFullError, match=r"out/s0\.nii\.gz: no space left on the disk"):
        infer_cases(predictor, find_inputs([scans]), tmp_path / "out")
    assert len(runs) <= 2  # the next one was on its way
    assert not list((tmp_path / "out").rglob(".tmp*"))
    monkeypatch.undo()
    assert {o.status for o in infer_cases(predictor, find_inputs([scans]), tmp_path / "out")} == {"done"}


def test_a_full_disk_is_detected_when_the_writer_raises_another_error(tmp_path, monkeypatch):
    from medseg.files import is_disk_full, write_atomic

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(OSError, match=r"x\.mha") as caught, write_atomic(tmp_path / "x.mha"):
        raise RuntimeError("ITK ERROR: the file could not be written")
    assert is_disk_full(caught.value)


# --- several processes --------------------------------------------------------------------------------------


def test_two_processes_do_not_write_to_one_folder(predictor, scans, tmp_path):
    with (
        locked(tmp_path / "out") as (other, _),
        pytest.raises(ConfigError, match=f"another process writes to this folder .process {other.pid}"),
    ):
        infer_cases(predictor, find_inputs([scans]), tmp_path / "out")
    outcomes = infer_cases(predictor, find_inputs([scans]), tmp_path / "out")
    assert {o.status for o in outcomes} == {"done"}
    assert not (tmp_path / "out" / LOCK_NAME).exists()


# --- what is found --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_output_folder_inside_the_inputs_is_not_searched(model, scans, capsys):
    command = ["infer", str(scans), "--model", str(model), "--output", str(scans / "out")]
    assert run([*command, "--overlays"]) == 0
    assert run(command) == 0
    assert "0 done, 3 skipped" in capsys.readouterr().out
    assert run(["infer", str(scans), "--model", str(model), "--output", str(scans / "more")]) == 0
    captured = capsys.readouterr()
    assert "3 done" in captured.out
    assert "hold results of medseg (1)" in captured.err


def test_outputs_among_the_inputs_are_not_segmented_again(model, tmp_path, capsys):
    for i in range(2):
        np.save(_below(tmp_path / "scans" / f"s{i}.npy"), np.random.default_rng(i).normal(size=(9, 8, 8)))
    command = ["infer", str(tmp_path / "scans"), "--model", str(model), "--output", str(tmp_path / "scans")]
    assert run(command) == 0
    assert run(command) == 0
    assert "0 done, 2 skipped" in capsys.readouterr().out


def _below(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@pytest.mark.slow
def test_masks_among_the_scans_are_listed_and_ignored(model, scans, tmp_path, capsys):
    blob = np.zeros((10, 9, 8), np.uint8)
    blob[2:7, 2:7, 2:7] = 1
    write_volume(scans / "s0_mask.nii.gz", blob)
    write_volume(scans / "masks" / "s1.nii.gz", (2 * blob).astype(np.int16))
    write_volume(scans / "t.nii.gz", blob.astype(np.float32))  # neither name nor type is that of a label map
    command = ["infer", str(scans), "--model", str(model)]
    assert run([*command, "--output", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    assert "ignored, because they look like label maps (2)" in captured.err
    assert "s0_mask.nii.gz" in captured.err
    assert sorted(p.name for p in (tmp_path / "out").glob("*.nii.gz")) == [
        "s0.nii.gz", "s1.nii.gz", "s2.nii.gz", "t.nii.gz"
    ]  # fmt: skip
    shutil.rmtree(scans / "masks")
    assert run([*command, "--output", str(tmp_path / "all"), "--all"]) == 0
    assert (tmp_path / "all" / "s0_mask.nii.gz").is_file()
    assert (
        run(["infer", str(scans / "s0_mask.nii.gz"), "--model", str(model), "--output", str(tmp_path / "x")])
        == 0
    )


def test_scans_with_names_of_masks_are_segmented(scans):
    (scans / "s0.nii.gz").rename(scans / "seg_01.nii.gz")  # noise, whatever its name says
    write_volume(scans / "mask_flat.nii.gz", np.zeros((8, 8, 8), np.uint8))
    assert [case.id for case in find_inputs([scans])] == ["mask_flat", "s1", "s2", "seg_01"]


def test_masks_of_pictures_are_left_out(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(3):
        write_picture(tmp_path / f"IMG_{i}.png", rng.integers(0, 255, (40, 40, 3)).astype(np.uint8))
        mask = np.zeros((40, 40), np.uint8)
        mask[5:20, 8:30] = 255
        write_picture(tmp_path / f"IMG_{i}_a.png", mask)
        write_picture(tmp_path / f"drawn{i}.png", mask)
    assert [case.id for case in find_inputs([tmp_path])] == ["IMG_0", "IMG_1", "IMG_2"]


@pytest.mark.slow
@pytest.mark.data
def test_label_maps_and_scans_of_public_data_are_distinguished(data_root):
    for name in ("nuclei", "nuclei_shift", "hippocampus", "retina_chase", "camvid", "membrane_isbi", "brats"):
        root = data_root / name
        images, labels = (
            sorted(p for p in (root / folder).rglob("*") if is_image_file(p))[:6]
            for folder in ("images", "labels")
        )
        assert find_label_maps([*images, *labels], root) == labels, name


def test_a_runs_cases_do_not_leave_the_output_folder(tmp_path):
    entry = {"id": "../../escaped", "part": "test", "image": str(tmp_path / "x.nii.gz"), "label": None}
    (tmp_path / "cases.json").write_text(json.dumps([entry]))
    with pytest.raises(Exception, match="holds a slash"):
        run_cases(tmp_path, "test")


# --- records ------------------------------------------------------------------------------------------------


def test_seconds_do_not_include_waiting_for_other_cases(predictor, scans, tmp_path, monkeypatch):
    network = Predictor.run

    def slow(self, ready, **options):
        time.sleep(0.3)
        return network(self, ready, **options)

    monkeypatch.setattr(Predictor, "run", slow)
    began = time.monotonic()
    outcomes = infer_cases(predictor, find_inputs([scans]), tmp_path / "out")
    assert (
        sum(o.seconds for o in outcomes) < time.monotonic() - began + 0.3
    )  # waiting counted twice would be 0.6
    assert all(o.seconds >= 0.3 for o in outcomes)
    record = read_record(tmp_path / "out", "s0")
    assert record is not None
    assert record.content["seconds"] >= 0.3


def test_a_record_is_found_by_its_label_map(predictor, scans, tmp_path):
    infer_cases(predictor, find_inputs([scans]), tmp_path / "bids", BatchOptions(layout="bids"))
    record = find_record(tmp_path / "bids" / "sub-s1" / "anat" / "sub-s1_dseg.nii.gz")
    assert record is not None
    assert (record.case, record.finished, record.is_edited()) == ("s1", True, False)
    assert find_record(scans / "s0.nii.gz") is None
