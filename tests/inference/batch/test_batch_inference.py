import csv
import json

import nibabel as nib
import numpy as np
import pytest
import tifffile
import torch
from conftest import ball_settings, write_picture, write_volume
from PIL import Image

from medseg.cli.main import run as main_run
from medseg.config.schema import load_config
from medseg.data.cases import Case
from medseg.data.io.readers import read_scan
from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.errors import ConfigError, DataError
from medseg.evaluation import evaluate_cases
from medseg.inference.batch.batch_inference import infer_cases
from medseg.inference.batch.input_discovery import find_inputs, run_cases
from medseg.inference.batch.options import BatchOptions
from medseg.inference.model.model_file import ModelHeader, save_model
from medseg.inference.model.predictor import Predictor
from medseg.inference.options import InferenceConfig
from medseg.models import UNetConfig
from medseg.report.palette import label_palette
from medseg.training.fit import fit


@pytest.fixture(scope="module")
def run(balls, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "balls"
    settings = ball_settings(balls, epochs=1, iterations=120, batch_size=4, optimizer={"lr": 0.01})
    settings["model"]["dropout"] = 0
    fit(load_config(settings), folder)
    return folder


@pytest.fixture(scope="module")
def predictor(run):
    return Predictor(run)


def test_arrays_of_two_axes_are_segmented_as_pictures(tmp_path):
    torch.manual_seed(0)
    header = ModelHeader(
        spatial_dims=2, channels=1, labels=LabelSchema(names={"background": (0,), "cell": (1,)}),
        preprocess=PreprocessConfig(), inference=InferenceConfig(roi_size=(16, 16)),
        model=UNetConfig(channels=(2, 4)),
    )  # fmt: skip
    save_model(tmp_path / "model.safetensors", header, dict(header.model.build(header.task).state_dict()))
    pixels = np.random.default_rng(0).integers(0, 255, (17, 16), dtype=np.uint8)
    write_picture(tmp_path / "in" / "a.png", pixels)
    np.save(tmp_path / "in" / "b.npy", pixels)
    np.savez(tmp_path / "in" / "c.npz", pixels)
    command = ["infer", str(tmp_path / "in"), "--model", str(tmp_path / "model.safetensors")]
    assert main_run([*command, "--output", str(tmp_path / "out"), "--overlays"]) == 0
    found = [read_scan(tmp_path / "out" / f"{name}.png").array for name in "abc"]
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def oblique(codes: str, spacing=(1.0, 1.0, 2.0)) -> np.ndarray:
    """An affine of the given orientation codes, turned a few degrees."""
    ornt = nib.orientations.axcodes2ornt(codes)
    affine = np.zeros((4, 4))
    for axis, (world, sign) in enumerate(ornt):
        affine[int(world), axis] = sign * spacing[axis]
    angle = np.deg2rad(7)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine[:3, :3] = turn @ affine[:3, :3]
    affine[:, 3] = (13, -7, 5, 1)
    return affine


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR", "PIL", "ALI"])
def test_outputs_have_exactly_the_grid_of_the_input(predictor, tmp_path, codes):
    voxels = np.random.default_rng(0).normal(0, 50, (17, 23, 9)).astype(np.int16)
    source = write_volume(tmp_path / "in" / "scan.nii.gz", voxels, oblique(codes))
    image = nib.load(source)
    image.set_sform(image.affine, 2)
    image.set_qform(image.affine, 1)
    nib.save(image, source)
    infer_cases(predictor, find_inputs([source]), tmp_path / "out")
    a, b = nib.load(source), nib.load(tmp_path / "out" / "scan.nii.gz")
    assert b.shape == a.shape
    assert np.array_equal(a.affine, b.affine)
    assert np.array_equal(a.get_qform(), b.get_qform())
    assert [int(b.header[k]) for k in ("qform_code", "sform_code")] == [1, 2]
    assert b.get_data_dtype() == np.uint8


def test_orientation_does_not_change_the_prediction(predictor, balls, tmp_path):
    image = nib.load(balls / "images" / "ball_0.nii.gz")
    turned = image.as_reoriented(nib.orientations.axcodes2ornt("PSR"))
    nib.save(turned, tmp_path / "turned.nii.gz")
    expected = predictor.predict(balls / "images" / "ball_0.nii.gz").label_map
    found = nib.Nifti1Image(predictor.predict(tmp_path / "turned.nii.gz").label_map, turned.affine)
    back = found.as_reoriented(nib.orientations.ornt_transform(
        nib.io_orientation(turned.affine), nib.io_orientation(image.affine)))  # fmt: skip
    assert np.array_equal(np.asanyarray(back.dataobj), expected)
    assert expected.any()


def test_a_singleton_axis_is_kept(predictor, tmp_path):
    source = write_volume(tmp_path / "scan.nii.gz", np.zeros((12, 12, 12, 1), np.int16) + 3)
    infer_cases(predictor, find_inputs([source]), tmp_path / "out")
    assert nib.load(tmp_path / "out" / "scan.nii.gz").shape == (12, 12, 12, 1)


@pytest.mark.slow
def test_all_requested_outputs_are_written(predictor, balls, tmp_path):
    cases = find_inputs([balls])
    outcomes = infer_cases(predictor, cases, tmp_path, BatchOptions(probabilities=True, overlays=True))
    assert [o.status for o in outcomes] == ["done"] * 6
    soft = nib.load(tmp_path / "probabilities" / "ball_0.nii.gz")
    assert soft.shape == (20, 20, 20, 3)
    assert np.allclose(soft.get_fdata().sum(axis=-1), 1, atol=1e-5)
    hard = np.asanyarray(nib.load(tmp_path / "ball_0.nii.gz").dataobj)
    assert np.array_equal(soft.get_fdata().argmax(axis=-1), hard)
    with Image.open(tmp_path / "overlays" / "ball_0.png") as picture:
        assert min(picture.size) > 200
    names = json.loads((tmp_path / "medseg.json").read_text())["labels"]["names"]
    assert names == {"background": [0], "ball": [1], "core": [2]}
    record = json.loads((tmp_path / "provenance" / "ball_0.json").read_text())
    assert record["model_sha256"] == predictor.digest
    assert not any(str(value).startswith("/") for value in record.values())


@pytest.mark.slow
def test_foreground_masks_are_read_from_a_folder(run, balls, tmp_path, capsys):
    images = sorted((balls / "images").glob("*.nii.gz"))[:2]
    for image in images:
        inside = np.zeros(nib.load(image).shape, np.uint8)
        inside[-1, -1, -1] = image == images[0]
        write_volume(tmp_path / "masks" / image.name, inside, nib.load(image).affine)
    command = ["infer", *map(str, images), "--model", str(run), "--foreground", str(tmp_path / "masks")]
    assert main_run([*command, "--output", str(tmp_path / "out"), "--set", "roi_size=[8,8,8]"]) == 0
    first, second = (np.asanyarray(nib.load(tmp_path / "out" / image.name).dataobj) for image in images)
    assert not second.any()
    assert not first[:10].any()
    (tmp_path / "masks" / images[1].name).unlink()
    assert main_run([*command, "--output", str(tmp_path / "other")]) == 3
    assert "cases without a foreground mask (1):\n  ball_1: no ball_1.nii.gz" in capsys.readouterr().err
    write_volume(tmp_path / "masks" / images[1].name, np.ones((5, 5, 5), np.uint8))
    assert main_run([*command, "--output", str(tmp_path / "other")]) == 4


def test_finished_cases_are_skipped_and_failures_listed(predictor, balls, tmp_path):
    source = tmp_path / "in"
    write_volume(source / "good.nii.gz", np.zeros((12, 12, 12), np.int16))
    (source / "empty.nii.gz").write_bytes(b"")
    (source / "cut.nii.gz").write_bytes((balls / "images" / "ball_0.nii.gz").read_bytes()[:500])
    write_volume(source / "nan.nii.gz", np.full((12, 12, 12), np.nan, np.float32))
    cases = find_inputs([source])
    first = {o.case: o.status for o in infer_cases(predictor, cases, tmp_path / "out")}
    assert first == {"good": "done", "empty": "failed", "cut": "failed", "nan": "failed"}
    with (tmp_path / "out" / "failures.csv").open() as stream:
        assert {row["case"] for row in csv.DictReader(stream)} == {"empty", "cut", "nan"}
    for name in ("empty", "cut", "nan"):
        (source / f"{name}.nii.gz").unlink()
    second = infer_cases(predictor, find_inputs([source]), tmp_path / "out")
    assert [o.status for o in second] == ["skipped"]
    with (tmp_path / "out" / "failures.csv").open() as stream:  # they still have no result
        assert {row["case"] for row in csv.DictReader(stream)} == {"empty", "cut", "nan"}
    assert not list((tmp_path / "out").rglob(".tmp-*"))


def test_a_result_of_another_input_is_not_skipped(predictor, tmp_path):
    source = write_volume(tmp_path / "scan.nii.gz", np.zeros((12, 12, 12), np.int16))
    infer_cases(predictor, find_inputs([source]), tmp_path / "out")
    write_volume(source, np.ones((12, 12, 12), np.int16))
    outcome = infer_cases(predictor, find_inputs([source]), tmp_path / "out")[0]
    assert (outcome.status, outcome.error) == ("kept", "made with other inputs or settings: the input differs")
    assert (
        infer_cases(predictor, find_inputs([source]), tmp_path / "out", BatchOptions(overwrite=True))[0].status
        == "done"
    )


def test_a_picture_given_to_a_3d_model_is_refused(predictor, squares, tmp_path):
    outcome = infer_cases(predictor, find_inputs([squares / "images" / "square_0.png"]), tmp_path)[0]
    assert "takes volumes" in (outcome.error or "")


ROAD, SKY = (128, 64, 128), (70, 130, 180)
SCENE = LabelSchema(
    names={"road": (7,), "sky": (23,), "car": (26,)}, colors={"road": ROAD, "sky": SKY}, background=False
)


@pytest.fixture
def scene(tmp_path):
    """A model of scenes with random weights, and a photo."""
    torch.manual_seed(0)
    header = ModelHeader(
        spatial_dims=2,
        channels=3,
        labels=SCENE,
        preprocess=PreprocessConfig(),
        inference=InferenceConfig(),
        model=UNetConfig(channels=(4, 8)),
    )
    path = tmp_path / "model.safetensors"
    save_model(path, header, header.model.build(header.task).state_dict())
    pixels = np.random.default_rng(0).integers(0, 255, (40, 56, 3)).astype(np.uint8)
    return Predictor(path), write_picture(tmp_path / "photo.png", pixels)


def test_label_maps_of_pictures_have_the_labels_colors(scene, tmp_path):
    predictor, photo = scene
    assert predictor.header.labels == SCENE  # the model file keeps the colors
    out, references = tmp_path / "out", tmp_path / "labels"
    infer_cases(predictor, find_inputs([photo]), out, BatchOptions(overlays=True))
    expected = predictor.predict(photo).label_map
    assert set(np.unique(expected)) > {7}
    with Image.open(out / "photo.png") as picture:
        assert picture.mode == "P"
        assert np.array_equal(np.asarray(picture), expected)
        colors = np.array(picture.getpalette()).reshape(-1, 3)
    # car has none of its own: the third after the background's black
    assert [colors[v].tolist() for v in (7, 23, 26)] == [[*ROAD], [*SKY], label_palette(4)[3].tolist()]
    assert np.array_equal(read_scan(out / "photo.png").array[0], expected)
    write_picture(references / "photo.png", expected)
    rows = evaluate_cases(out, references).rows
    assert {row["name"] for row in rows} <= set(SCENE.names)
    assert [row["dice"] for row in rows if row["label"] == "7"] == [1.0]
    with Image.open(out / "overlays" / "photo.png") as panel:
        shown = np.unique(np.asarray(panel).reshape(-1, 3), axis=0).tolist()
    assert [*ROAD] in shown  # the first label is no background
    with Image.open(out / "overlays" / "full_size" / "photo.png") as laid:
        assert (laid.size, laid.mode) == ((56, 40), "RGB")


def test_a_folder_written_without_label_colors_is_continued(scene, tmp_path):
    predictor, photo = scene
    out = tmp_path / "out"
    infer_cases(predictor, [], out)
    legend = json.loads((out / "medseg.json").read_text())
    assert legend["labels"].pop("colors") == {"road": [*ROAD], "sky": [*SKY]}
    (out / "medseg.json").write_text(json.dumps(legend))
    assert infer_cases(predictor, find_inputs([photo]), out)[0].status == "done"


def test_other_labels_in_the_folder_are_not_mixed(predictor, tmp_path):
    (tmp_path / "medseg.json").write_text(json.dumps({"labels": {"names": {"background": [0], "x": [7]}}}))
    with pytest.raises(ConfigError, match="other labels"):
        infer_cases(predictor, [], tmp_path)


def test_inputs_are_found_in_files_and_folders(balls, tmp_path):
    assert len(find_inputs([balls])) == 6  # a folder with images/ and labels/: its images
    assert find_inputs([balls / "images" / "ball_3.nii.gz"])[0].id == "ball_3"
    with pytest.raises(DataError, match="no such file"):
        find_inputs([tmp_path / "nothing.nii.gz"])
    with pytest.raises(DataError, match="no image files"):
        find_inputs([tmp_path])
    write_volume(tmp_path / "a" / "scan.nii.gz", np.zeros((4, 4, 4), np.int16))
    write_volume(tmp_path / "b" / "scan.nii.gz", np.zeros((4, 4, 4), np.int16))
    with pytest.raises(DataError, match="share a name"):
        find_inputs([tmp_path])
    assert len(find_inputs([tmp_path / "a", tmp_path / "a" / "scan.nii.gz"])) == 1  # given twice


def test_a_file_at_the_path_of_the_output_folder_is_an_error(run, balls, tmp_path, capsys):
    (tmp_path / "out").write_text("a thesis")
    command = ["infer", str(balls), "--model", str(run), "--output", str(tmp_path / "out")]
    assert main_run(command) == 2
    error = capsys.readouterr().err
    assert "out: File exists" in error
    assert "A folder is expected there" in error
    assert (tmp_path / "out").read_text() == "a thesis"


@pytest.mark.slow
def test_label_maps_in_bids_layout_are_evaluated(run, predictor, balls, tmp_path):
    cases = find_inputs([balls])
    infer_cases(predictor, cases, tmp_path / "flat")
    infer_cases(predictor, cases, tmp_path / "bids", BatchOptions(layout="bids"))
    flat, bids = (evaluate_cases(tmp_path / name, balls / "labels").rows for name in ("flat", "bids"))
    assert bids == flat
    assert len({row["case"] for row in bids}) == 6


def test_cases_of_a_run(run, balls):
    cases = run_cases(run, "test")
    assert len(cases) == 1
    assert isinstance(cases[0], Case)
    with pytest.raises(DataError, match=r"cases\.json"):
        run_cases(balls, "test")


def test_models_that_resample_predict_on_the_input_grid(balls, tmp_path):
    settings = ball_settings(balls, epochs=1, iterations=2) | {"preprocess": {"spacing": [1.0, 1.5, 2.0]}}
    fit(load_config(settings), tmp_path / "run")
    source = write_volume(tmp_path / "scan.nii.gz", np.zeros((31, 14, 22), np.int16) + 5, oblique("LIA"))
    prediction = Predictor(tmp_path / "run").predict(source)
    assert prediction.label_map.shape == (31, 14, 22)


def test_a_multi_page_tiff_gives_a_tiff(predictor, tmp_path):
    voxels = np.random.default_rng(0).integers(0, 200, (12, 14, 13)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", voxels, photometric="minisblack")
    outcome = infer_cases(predictor, find_inputs([tmp_path / "stack.tif"]), tmp_path / "out")[0]
    assert outcome.error is None
    assert tifffile.imread(tmp_path / "out" / "stack.tif").shape == (12, 14, 13)
    assert not list((tmp_path / "out").glob("*.png"))
