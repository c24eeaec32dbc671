"""DICOM objects of predictions: agreement with the label map, and privacy of patient attributes."""

import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from conftest import write_volume
from series import DOCTOR, NAME, NUMBER, turned, write_dicom

from medseg.cli.main import run
from medseg.data.cases import Case
from medseg.data.io.dicom.segmentation import read_segments
from medseg.data.io.readers import read_scan
from medseg.data.labels.names.terminology import TerminologyCode
from medseg.data.labels.reader import LabelReader
from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.errors import ConfigError, DataError
from medseg.evaluation import evaluate_cases
from medseg.inference.batch.batch_inference import infer_cases
from medseg.inference.batch.input_discovery import find_inputs
from medseg.inference.batch.options import BatchOptions
from medseg.inference.batch.outputs.dicom_objects import instance_segments, label_segments
from medseg.inference.model.model_file import ModelHeader, save_model
from medseg.inference.model.predictor import Predictor
from medseg.inference.options import InferenceConfig
from medseg.instances.options import InstanceTask
from medseg.instances.result import Instances
from medseg.models import UNetConfig
from medseg.report.palette import label_palette

NODE = TerminologyCode(value="59441001", meaning="Lymph Node", category="tissue")
LABELS = LabelSchema(
    names={"background": (0,), "liver": (1,), "node": (4,)},
    terminology={"node": NODE},
    colors={"liver": (10, 20, 30)},
)
BOTH = BatchOptions(dicom=("seg", "rtstruct"))


def model_of(folder, labels, instances=None):
    """A model with random weights that finds something of everything."""
    torch.manual_seed(3)
    header = ModelHeader(
        spatial_dims=3,
        channels=1,
        labels=labels,
        preprocess=PreprocessConfig(),
        inference=InferenceConfig(roi_size=(16, 16, 8)),
        model=UNetConfig(channels=(4, 8)),
        instances=instances,
    )
    path = folder / "model.safetensors"
    save_model(path, header, header.model.build(header.task).state_dict())
    return path


@pytest.fixture
def model(tmp_path):
    return model_of(tmp_path, LABELS)


def series_in(folder, **options):
    voxels = np.random.default_rng(0).normal(0, 300, (9, 20, 24)).astype(np.int16)
    return write_dicom(folder, voxels, orientation=turned(20, -10), **options)


@pytest.mark.slow
def test_dicom_objects_agree_with_the_label_map(model, tmp_path):
    folder, out = series_in(tmp_path / "scan7"), tmp_path / "out"
    predictor = Predictor(model)
    outcome = infer_cases(predictor, find_inputs([folder]), out, BOTH)[0]
    assert (outcome.status, outcome.notes) == ("done", ())
    values = np.asanyarray(nib.load(out / "scan7.nii.gz").dataobj)
    assert set(np.unique(values)) == {0, 1, 4}
    seg = read_segments(out / "dicom" / "scan7.seg.dcm", read_scan(folder).grid)
    assert seg.names == {1: "liver", 2: "node"}
    assert np.array_equal(seg.masks[1], values == 1)
    assert np.array_equal(seg.masks[2], values == 4)
    ds = pydicom.dcmread(out / "dicom" / "scan7.seg.dcm")
    assert ds.SegmentSequence[1].SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Lymph Node"
    assert (
        predictor.digest
        in ds.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters
    )
    rois = pydicom.dcmread(out / "dicom" / "scan7.rtstruct.dcm").ROIContourSequence
    assert rois[0].ROIDisplayColor == [10, 20, 30]
    again = infer_cases(predictor, find_inputs([folder]), out, BOTH)[0]
    assert again.status == "skipped"
    (out / "dicom" / "scan7.rtstruct.dcm").unlink()
    assert infer_cases(predictor, find_inputs([folder]), out, BOTH)[0].status == "done"
    references = tmp_path / "references"
    write_volume(references / "scan7.nii.gz", values, nib.load(out / "scan7.nii.gz").affine)
    rows = evaluate_cases(out, references).rows  # the folder of objects is no prediction
    assert [row["dice"] for row in rows] == [1.0, 1.0]


@pytest.mark.slow
def test_a_failed_object_leaves_no_output_and_no_change(model, tmp_path, monkeypatch):
    cases, out = find_inputs([series_in(tmp_path / "scan7")]), tmp_path / "out"
    predictor = Predictor(model)
    with monkeypatch.context() as patch:
        patch.setattr("medseg.dicom.rtstruct.MAX_CONTOURS", 0)
        assert infer_cases(predictor, cases, out, BOTH)[0].status == "failed"
    left = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert left == {"requested.json", "failures.csv"}
    assert infer_cases(predictor, cases, out, BOTH)[0].status == "done"
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr("medseg.dicom.rtstruct.MAX_CONTOURS", 0)
        (failed,) = infer_cases(predictor, cases, out, replace(BOTH, overwrite=True))
    assert (failed.status, "contours" in (failed.error or "")) == ("failed", True)
    (out / "failures.csv").unlink()
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert infer_cases(predictor, cases, out, BOTH)[0].status == "skipped"


def test_overlapping_regions_are_overlapping_segments(tmp_path):
    labels = LabelSchema(
        names={"background": (0,), "liver": (1,), "tumor": (2,)},
        regions={"whole": ("liver", "tumor"), "tumor": ("tumor",)},
    )
    assert [(s.name, s.values, s.color) for s in label_segments(labels)] == [
        ("whole", (1, 2), tuple(label_palette(3)[1].tolist())),
        ("tumor", (2,), tuple(label_palette(3)[2].tolist())),
    ]
    folder, out = series_in(tmp_path / "scan"), tmp_path / "out"
    infer_cases(Predictor(model_of(tmp_path, labels)), find_inputs([folder]), out, BOTH)
    values = np.asanyarray(nib.load(out / "scan.nii.gz").dataobj)
    masks = read_segments(out / "dicom" / "scan.seg.dcm", read_scan(folder).grid).masks
    assert np.array_equal(masks[1], values > 0)
    assert np.array_equal(masks[2], values == 2)
    assert values.any()


def test_scenes_without_background_have_a_segment_of_each_label():
    labels = LabelSchema(names={"a": (7,), "b": (3,)}, background=False)
    assert [s.values for s in label_segments(labels)] == [(7,), (3,)]


def test_a_series_with_gaps_is_resampled_on_request(model, tmp_path):
    folder, out = series_in(tmp_path / "scan", left_out=(3, 4)), tmp_path / "out"
    cases, predictor = find_inputs([folder]), Predictor(model)
    refused = infer_cases(predictor, cases, out, BOTH)[0]
    assert "2 slices are missing" in (refused.error or "")
    assert not (out / "dicom").exists()
    outcome = infer_cases(predictor, cases, out, replace(BOTH, dicom_geometry="resample"))[0]
    assert outcome.status == "done"
    assert "even grid of 9 slices" in outcome.notes[0]
    record = json.loads((out / "provenance" / "scan.json").read_text())
    assert record["notes"] == list(outcome.notes)
    image = nib.load(out / "scan.nii.gz")
    assert image.shape == (24, 20, 9)  # the label map on the even grid, the objects on the slices there are
    grid = read_scan(folder, uneven="resample").grid
    assert np.allclose(image.affine, grid.affine, atol=1e-4)
    values = np.asanyarray(image.dataobj).copy()
    values[:, :, 3:5] = 0
    masks = read_segments(out / "dicom" / "scan.seg.dcm", grid).masks
    assert np.array_equal(masks[1], values == 1)
    ds = pydicom.dcmread(out / "dicom" / "scan.rtstruct.dcm")
    assert len(ds.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
               .RTReferencedSeriesSequence[0].ContourImageSequence) == 7  # fmt: skip


def test_a_single_slice_and_one_of_several_series(model, tmp_path):
    folder = series_in(tmp_path / "scan")
    other = write_dicom(tmp_path / "other", np.zeros((9, 20, 24)), SeriesNumber=8)
    for file in other.iterdir():
        file.rename(folder / f"other_{file.name}")
    alone = write_dicom(tmp_path / "alone", np.random.default_rng(0).normal(0, 300, (1, 20, 24)))
    (alone / "0_0.dcm").rename(tmp_path / "slice.dcm")
    for given, name in ((f"{folder}#8", "scan"), (str(tmp_path / "slice.dcm"), "slice")):
        out = tmp_path / "out" / name
        found = infer_cases(Predictor(model), find_inputs([Path(given)]), out, BOTH)[0]
        assert (found.case, found.status) == (name, "done")
        values = np.asanyarray(nib.load(out / f"{name}.nii.gz").dataobj)
        seg = out / "dicom" / f"{name}.seg.dcm"
        masks = read_segments(seg, read_scan(Path(given)).grid).masks
        assert np.array_equal(masks[1], values == 1)
        assert pydicom.dcmread(seg).SeriesNumber == (1008 if name == "scan" else 1004)


def test_inputs_other_than_series_are_rejected_before_any_case(model, tmp_path):
    source = write_volume(tmp_path / "scan.nii.gz", np.zeros((12, 12, 12), np.int16))
    cases = find_inputs([source, series_in(tmp_path / "good")])
    with pytest.raises(ConfigError, match=r"these cases are not DICOM series \(1\):\s+scan: scan\.nii\.gz"):
        infer_cases(Predictor(model), cases, tmp_path / "out", BOTH)
    assert not (tmp_path / "out").exists()


def test_without_highdicom_seg_is_an_error_and_rtstruct_is_written(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    cases, predictor = find_inputs([series_in(tmp_path / "scan")]), Predictor(model)
    with pytest.raises(ConfigError, match="pip install"):
        infer_cases(predictor, cases, tmp_path / "out", BatchOptions(dicom=("seg",)))
    infer_cases(predictor, cases, tmp_path / "out", BatchOptions(dicom=("rtstruct",)))
    assert [p.name for p in (tmp_path / "out" / "dicom").iterdir()] == ["scan.rtstruct.dcm"]


@pytest.mark.slow
def test_patient_attributes_appear_only_in_the_objects(model, tmp_path, caplog, capfd, recwarn):
    caplog.set_level(logging.DEBUG)
    folder, bad = series_in(tmp_path / "scan"), series_in(tmp_path / "gap", left_out=(4,))
    out = tmp_path / "out"
    arguments = ["infer", str(folder), str(bad), "--model", str(model), "--output", str(out)]
    assert run([*arguments, "--dicom", "seg", "--dicom", "rtstruct", "--overlays", "--json"]) == 4
    made = run([
        "dicom", "export", str(out / "scan.nii.gz"), str(folder), "--to", "seg", "-o", str(tmp_path / "b.dcm")
    ])  # fmt: skip
    assert made == 0
    printed = capfd.readouterr()
    messages = caplog.text + printed.out + printed.err + "".join(str(w.message) for w in recwarn)
    words = [NAME, NUMBER, DOCTOR, "Planted", "PLANTED"]
    assert not [word for word in words if word in messages]
    files = [p for p in out.rglob("*") if p.is_file()]
    objects = [p for p in files if p.suffix == ".dcm"]
    assert sorted(p.name for p in objects) == ["scan.rtstruct.dcm", "scan.seg.dcm"]
    for path in files:
        assert not [word for word in words if word in str(path)]
        content = path.read_bytes()
        assert any(word.encode() in content for word in words) == (path in objects), path
    assert str(pydicom.dcmread(objects[0]).PatientName) == NAME


def test_an_object_of_a_result_names_the_model_that_made_it(model, tmp_path):
    series, out = series_in(tmp_path / "scan"), tmp_path / "out"
    first = Predictor(model)
    infer_cases(first, find_inputs([series]), out)
    second = tmp_path / "second"
    second.mkdir()
    torch.manual_seed(4)
    header = first.header
    save_model(second / "model.safetensors", header, header.model.build(header.task).state_dict())
    infer_cases(Predictor(second), find_inputs([series_in(tmp_path / "later")]), out)
    assert (
        run(["dicom", "export", str(out / "scan.nii.gz"), str(series), "--to", "seg", "-o", str(out / "a.dcm")])
        == 0
    )
    segment = pydicom.dcmread(out / "a.dcm").SegmentSequence[0]
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    assert first.digest in segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters


def test_an_edited_label_map_is_not_exported_as_automatic(model, tmp_path, capsys):
    series, out = series_in(tmp_path / "scan"), tmp_path / "out"
    infer_cases(Predictor(model), find_inputs([series]), out)
    image = nib.load(out / "scan.nii.gz")
    values = np.asanyarray(image.dataobj).copy()
    values[3:6, 3:6, 3:6] = 1
    nib.save(nib.Nifti1Image(values, image.affine, image.header), out / "scan.nii.gz")
    assert (
        run(["dicom", "export", str(out / "scan.nii.gz"), str(series), "--to", "seg", "-o", str(out / "a.dcm")])
        == 0
    )
    assert "was changed after the model wrote it" in capsys.readouterr().err
    assert pydicom.dcmread(out / "a.dcm").SegmentSequence[0].SegmentAlgorithmType == "SEMIAUTOMATIC"
    (out / "provenance" / "scan.json").unlink()
    assert (
        run(["dicom", "export", str(out / "scan.nii.gz"), str(series), "--to", "seg", "-o", str(out / "b.dcm")])
        == 2
    )
    assert "--made" in capsys.readouterr().err


def test_a_rerun_with_another_dicom_geometry_keeps_what_it_does_not_change(model, tmp_path):
    predictor, out = Predictor(model), tmp_path / "out"
    cases = find_inputs([series_in(tmp_path / "even"), series_in(tmp_path / "gap", left_out=(4,))])
    assert [o.status for o in infer_cases(predictor, cases, out)] == ["done", "failed"]
    again = infer_cases(predictor, cases, out, BatchOptions(dicom_geometry="resample"))
    assert [o.status for o in again] == ["skipped", "done"]
    refused = infer_cases(predictor, cases, out)
    assert [o.status for o in refused] == ["skipped", "kept"]
    assert "--dicom-geometry resample → not used" in (refused[1].error or "")


def export(tmp_path, *more):
    series, label_map, made = (str(tmp_path / name) for name in ("scan", "map.nii.gz", "a.dcm"))
    return run(["dicom", "export", label_map, series, "-o", made, *more])


def test_a_label_map_of_any_origin_is_exported(tmp_path, capsys):
    scan = read_scan(series_in(tmp_path / "scan"))
    values = np.zeros(scan.grid.shape, np.uint8)
    values[4:9, 5:12, 2:6] = 1
    values[12:15, 5:12, 3:8] = 2
    turned_map = nib.as_closest_canonical(nib.Nifti1Image(values, scan.grid.affine))  # along other axes
    nib.save(turned_map, tmp_path / "map.nii.gz")
    assert export(tmp_path, "--to", "seg") == 2
    assert "--labels" in capsys.readouterr().err
    assert export(tmp_path, "--to", "seg", "--labels", "liver=1,vessel=2") == 2
    assert "--made" in capsys.readouterr().err
    assert export(tmp_path, "--to", "seg", "--labels", "liver=1", "--made", "manual") == 3
    assert "undeclared label values: 2" in capsys.readouterr().err
    assert export(tmp_path, "--to", "seg", "--labels", "liver=1,vessel=2", "--made", "manual") == 0
    back = read_segments(tmp_path / "a.dcm", scan.grid)
    assert back.names == {1: "liver", 2: "vessel"}
    assert np.array_equal(back.masks[1], values == 1)
    assert np.array_equal(back.masks[2], values == 2)
    assert pydicom.dcmread(tmp_path / "a.dcm").SegmentSequence[0].SegmentAlgorithmType == "MANUAL"
    assert export(tmp_path, "--to", "rtstruct", "--labels", "liver=1,vessel=2", "--made", "semiautomatic") == 2
    assert "file exists" in capsys.readouterr().err
    (tmp_path / "a.dcm").unlink()
    assert export(tmp_path, "--to", "rtstruct", "--labels", "liver=1,vessel=2", "--made", "semiautomatic") == 0
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    assert ds.StructureSetROISequence[0].ROIGenerationAlgorithm == "SEMIAUTOMATIC"


def test_an_export_to_a_series_with_another_grid_is_an_error(tmp_path, capsys):
    series_in(tmp_path / "scan")
    write_volume(tmp_path / "map.nii.gz", np.zeros((24, 20, 9), np.uint8))
    arguments = ("--to", "seg", "--labels", "liver=1", "--made", "manual")
    assert export(tmp_path, *arguments) == 3
    assert "is not on the grid" in capsys.readouterr().err
    (tmp_path / "scan").rename(tmp_path / "elsewhere")
    assert export(tmp_path, *arguments) == 3
    assert "no such" in capsys.readouterr().err


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param("dicom_ct_series", marks=pytest.mark.exhaustive), "dicom_mr_series"]
)
def test_a_real_series_through_the_command(data_root, name, model, tmp_path, capsys):
    folder, out = data_root / name / "images", tmp_path / "out"
    given = ["infer", str(folder), "--model", str(model), "--output", str(out)]
    fast = ["--set", "roi_size=[128,128,8]", "--set", "overlap=0"]
    assert run([*given, *fast, "--dicom", "seg", "--dicom-geometry", "resample"]) == 0
    (label_map,) = out.glob("*.nii.gz")
    values = np.asanyarray(nib.load(label_map).dataobj)
    (seg,) = (out / "dicom").iterdir()
    masks = read_segments(seg, read_scan(folder).grid).masks
    assert np.array_equal(masks[1], values == 1)
    assert np.array_equal(masks[2], values == 4)


def test_a_dicom_file_without_suffix_names_the_folder_to_give(tmp_path):
    first = sorted(series_in(tmp_path / "scan").iterdir())[0]
    file = first.rename(tmp_path / "IM0001")
    with pytest.raises(DataError, match="DICOM file without the suffix") as caught:
        find_inputs([file])
    assert str(tmp_path) in (caught.value.hint or "")


@pytest.mark.slow
def test_undeclared_segments_are_reported(model, tmp_path, caplog):
    folder, out = series_in(tmp_path / "scan7"), tmp_path / "out"
    infer_cases(Predictor(model), find_inputs([folder]), out, BOTH)
    case = Case("scan7", folder, out / "dicom" / "scan7.seg.dcm")
    target = LabelReader(values={"node": 2}).read(case, read_scan(folder))
    assert target is not None
    assert set(np.unique(target.values)) == {0, 2}
    assert "undeclared labels are ignored: liver" in caplog.text


def test_each_object_is_a_segment_of_its_own():
    cells = np.array([[[1, 1, 0], [2, 0, 3]]])
    instances = Instances.from_label_map(cells, np.array([1, 2, 1]))
    labels = LabelSchema(names={"background": (0,), "lesion": (1,), "node": (2,)})
    found = instance_segments(instances, labels)
    assert [(one.name, one.values) for one in found] == [
        ("lesion 1", (1,)),
        ("node 2", (2,)),
        ("lesion 3", (3,)),
    ]
    assert len({one.color for one in found}) == 3
    assert found[0].code == label_segments(labels)[0].code


@pytest.mark.parametrize("foreground", [0.5, 1.0])
def test_each_object_of_a_series_is_written_as_a_segment(tmp_path, foreground):
    labels = LabelSchema(names={"background": (0,), "node": (1,)})
    model = model_of(tmp_path, labels, InstanceTask(decoder="distance"))
    folder, out = series_in(tmp_path / "scan7"), tmp_path / "out"
    settings = {"instances": {"foreground": foreground, "smallest": 20.0}}
    [outcome] = infer_cases(Predictor(model, settings=settings), find_inputs([folder]), out, BOTH)
    assert outcome.status == "done", outcome.error
    numbers = np.asanyarray(nib.load(out / "scan7.nii.gz").dataobj)
    seg = read_segments(out / "dicom" / "scan7.seg.dcm", read_scan(folder).grid)
    if foreground == 1:  # nothing is found: one empty segment
        assert not numbers.any()
        assert seg.names == {1: "node"}
        return
    assert len(seg.names) == numbers.max() > 1
    assert seg.names[2] == "node 2"
    assert all(np.array_equal(mask, numbers == number) for number, mask in seg.masks.items())
