"""Pictures larger than memory: label maps equal those of inference in memory, for every file format."""

import json

import numpy as np
import pytest
import tifffile
import torch
import zarr
from conftest import write_picture
from PIL import Image

from medseg.data.io.readers import read_scan
from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.normalization import CT, ImageNet, Percentile, Range, ZScore, ZScoreNonzero
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.inference.batch.batch_inference import infer_cases
from medseg.inference.batch.input_discovery import find_inputs
from medseg.inference.batch.options import BatchOptions
from medseg.inference.model.model_file import ModelHeader, save_model
from medseg.inference.model.predictor import Predictor
from medseg.inference.options import InferenceConfig
from medseg.models import UNetConfig

GREEN = (10, 200, 30)
LABELS = LabelSchema(names={"glass": (0,), "tumor": (3,), "stroma": (200,)}, colors={"tumor": GREEN})


def model(folder, *, channels=3, normalize=None, labels=LABELS, seed=0, **inference):
    """A tiny model with random weights."""
    torch.manual_seed(seed)
    header = ModelHeader(
        spatial_dims=2,
        channels=channels,
        labels=labels,
        preprocess=PreprocessConfig(normalize=normalize or Range()),
        inference=InferenceConfig(**{"roi_size": (64, 64), **inference}),
        model=UNetConfig(channels=(4, 8)),
    )
    path = folder / f"model{seed}.safetensors"
    save_model(path, header, header.model.build(header.task).state_dict())
    return path


def picture(h, w, samples=3, seed=0):
    """Patches of color with noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 200, (h // 20 + 1, w // 20 + 1, samples))
    fine = np.kron(coarse, np.ones((20, 20, 1)))[:h, :w] + rng.integers(0, 50, (h, w, samples))
    return fine.astype(np.uint8)


def tiled(path, pixels, **options):
    tifffile.imwrite(path, pixels, **{"tile": (64, 48), "compression": "zlib", "metadata": None, **options})
    return path


def large(path, *files, out, **settings):
    """The label map of a file read window by window, and its messages."""
    predictor = Predictor(list(files), device="cpu", amp="off", settings={"large_above": 0, **settings})
    (outcome,) = infer_cases(predictor, find_inputs([path]), out)
    assert outcome.status == "done", outcome.error
    return tifffile.imread(outcome.output), outcome


def in_memory(pixels, *files, **settings):
    png = files[0].parent / "whole.png"
    write_picture(png, pixels)
    predictor = Predictor(list(files), device="cpu", amp="off", settings=settings)
    return predictor.predict(png).label_map


@pytest.mark.parametrize("shape", [(300, 171), (150, 333), (40, 50)], ids=["tall", "wide", "small"])
@pytest.mark.parametrize(
    "normalize",
    [Range(), ImageNet(), ZScore(), ZScoreNonzero(), Percentile(), CT(low=0, high=200, mean=99, std=50)],
    ids=lambda one: one.name,
)
def test_the_label_map_equals_that_of_inference_in_memory(tmp_path, shape, normalize):
    pixels = picture(*shape)
    pixels[:20, :30] = 0
    file = model(tmp_path, normalize=normalize)
    found, outcome = large(tiled(tmp_path / "a.tif", pixels), file, out=tmp_path / "out")
    assert np.array_equal(found, in_memory(pixels, file))
    assert len(np.unique(found)) > 1
    assert outcome.notes == (f"{shape[0]}×{shape[1]} pixels, read window by window",)


@pytest.mark.slow
def test_a_larger_picture_and_its_pyramid(tmp_path):
    pixels = picture(1500, 2000)
    file = model(tmp_path, normalize=ZScore(), roi_size=(256, 256), overlap=0.25)
    source = tiled(tmp_path / "a.tif", pixels, tile=(256, 256), resolution=(4e4, 2e4), resolutionunit=3)
    found, outcome = large(source, file, out=tmp_path / "out")
    assert np.array_equal(found, in_memory(pixels, file))
    with tifffile.TiffFile(outcome.output) as tiff:
        assert [level.shape for level in tiff.series[0].levels] == [(1500, 2000), (750, 1000), (375, 500)]
        assert all(level.pages[0].is_tiled for level in tiff.series[0].levels)
        for level in (1, 2):
            assert np.array_equal(tiff.series[0].levels[level].asarray(), found[:: 2**level, :: 2**level])
        assert (tiff.pages[0].colormap[:, 3] >> 8).tolist() == [*GREEN]
        numerator, denominator = tiff.pages[0].tags["XResolution"].value
        assert numerator / denominator == 4e4
    assert np.array_equal(read_scan(tmp_path / "out" / "a.tif").array[0], found)  # by index, as a label map
    record = json.loads((tmp_path / "out" / "provenance" / "a.json").read_text())
    assert record["inference"]["large_above"] == 0


@pytest.mark.exhaustive
def test_twelve_million_pixels(tmp_path):
    pixels = picture(3000, 4000)
    file = model(tmp_path, normalize=ZScore(), roi_size=(512, 512))
    found, _ = large(tiled(tmp_path / "a.tif", pixels, tile=(256, 256)), file, out=tmp_path / "out")
    assert np.array_equal(found, in_memory(pixels, file))


@pytest.mark.slow
def test_regions_ensembles_flips_and_probabilities(tmp_path):
    pixels = picture(130, 190)
    labels = LabelSchema(names={"none": (0,), "a": (1,), "b": (2,)}, regions={"both": ("a", "b"), "b": ("b",)})
    files = [model(tmp_path, labels=labels, seed=i, flips=(1,)) for i in range(2)]
    source = tiled(tmp_path / "a.tif", pixels)
    found, _ = large(source, *files, out=tmp_path / "out")
    assert np.array_equal(found, in_memory(pixels, *files))
    predictor = Predictor(files, device="cpu", amp="off", settings={"large_above": 0})
    (outcome,) = infer_cases(
        predictor,
        find_inputs([source]),
        tmp_path / "more",
        BatchOptions(probabilities=True, overlays=True),
    )
    assert outcome.status == "done", outcome.error
    whole = predictor.predict(tmp_path / "whole.png", probabilities=True).probabilities
    soft = tifffile.imread(tmp_path / "more" / "probabilities" / "a.tif")
    assert (soft.dtype, soft.shape) == (np.float32, (130, 190, 2))
    assert np.array_equal(np.moveaxis(soft, -1, 0), whole)
    assert np.array_equal(tifffile.imread(outcome.output), found)
    with Image.open(tmp_path / "more" / "overlays" / "reduced" / "a.png") as reduced:
        assert reduced.size == (190, 130)
    assert infer_cases(predictor, find_inputs([source]), tmp_path / "more")[0].status == "skipped"


SKIPS = [({"skip_above": 240}, 255), ({"skip_below": 10}, 0), ({"skip_below": 10, "skip_above": 240}, 255)]


@pytest.mark.parametrize(("settings", "glass"), SKIPS)
def test_windows_of_background_are_left_out(tmp_path, settings, glass):
    pixels = np.clip(picture(200, 400), 20, 230)
    pixels[:, 150:] = glass
    pixels[120, 380, 1] = 128  # one pixel of tissue in the right part
    file = model(tmp_path, overlap=0)
    found, _ = large(tiled(tmp_path / "a.tif", pixels), file, out=tmp_path / "out", **settings)
    assert np.array_equal(found, in_memory(pixels, file, **settings))
    assert not found[:, 192:320].any()  # windows at 192 and 256: nothing but background
    assert found[64:192, 336:].any()
    pixels[:] = glass
    found, _ = large(tiled(tmp_path / "b.tif", pixels), file, out=tmp_path / "out", **settings)
    assert found.shape == (200, 400)
    assert not found.any()


def test_pictures_below_the_limit_are_read_into_memory(tmp_path):
    file, source = model(tmp_path), tiled(tmp_path / "a.tif", picture(64, 64))
    (outcome,) = infer_cases(Predictor(file, device="cpu"), find_inputs([source]), tmp_path / "out")
    assert outcome.output.endswith("a.png")
    assert outcome.notes == ()


def refused(source, file, out, **settings):
    predictor = Predictor(file, device="cpu", amp="off", settings={"large_above": 0, **settings})
    (outcome,) = infer_cases(predictor, find_inputs([source]), out)
    assert outcome.status == "failed"
    assert {p.name for p in out.rglob("*")} == {"requested.json", "failures.csv"}
    assert str(source) in outcome.error
    return outcome.error


def test_damaged_files_are_named_and_no_incomplete_file_remains(tmp_path):
    file, source = model(tmp_path), tiled(tmp_path / "a.tif", picture(300, 300))
    whole = source.read_bytes()
    source.write_bytes(whole[:-5000])
    assert "truncated" in refused(source, file, tmp_path / "out")
    with tifffile.TiffFile(source) as tiff:
        offset = tiff.pages[0].dataoffsets[20]
    broken = bytearray(whole)
    broken[offset : offset + 200] = bytes(200)
    source.write_bytes(broken)
    assert "row 128, column 288, truncated" in refused(source, file, tmp_path / "out")  # 7 tiles a row
    floats = picture(300, 300, 1)[..., 0].astype(np.float32)
    floats[200, 100] = np.nan
    assert "NaN" in refused(tiled(source, floats), model(tmp_path, channels=1), tmp_path / "out")


def test_settings_that_need_the_whole_picture_are_refused(tmp_path):
    source = tiled(tmp_path / "a.tif", picture(100, 100))
    file = model(tmp_path, roi_size=None)
    assert "--set roi_size=[512,512]" in refused(source, file, tmp_path / "out")
    file = model(tmp_path)
    steps = {"largest": ["tumor"]}
    assert "--set 'postprocess={}'" in refused(source, file, tmp_path / "out", postprocess=steps)
    assert "no level 3; its levels are 0 (100×100)" in refused(source, file, tmp_path / "out", level=3)
    photo = write_picture(tmp_path / "b.png", picture(100, 100))
    assert "no pyramid" in refused(photo, file, tmp_path / "out", level=1)


@pytest.mark.slow
def test_slides_and_stores_go_through_with_their_level(tmp_path):
    pixels, file = picture(300, 400), model(tmp_path, normalize=ZScore())
    folder = tmp_path / "in"
    write_store(folder / "store.ome.zarr", pixels)
    with tifffile.TiffWriter(folder / "slide.svs") as tiff:
        for k in (1, 2):
            tiff.write(pixels[::k, ::k], tile=(64, 48), photometric="rgb", metadata=None, subfiletype=k - 1)
    for level in (0, 1):
        out, expected = tmp_path / f"out{level}", in_memory(pixels[:: 1 + level, :: 1 + level], file)
        predictor = Predictor(file, device="cpu", amp="off", settings={"level": level})
        outcomes = infer_cases(predictor, find_inputs([folder]), out, BatchOptions(overlays=True))
        assert [(o.case, o.status, o.error) for o in outcomes] == [
            ("slide", "done", None), ("store", "done", None)
        ]  # fmt: skip
        for outcome in outcomes:
            assert f"level {level} of 2" in outcome.notes[0]
            assert np.array_equal(tifffile.imread(outcome.output), expected)
        assert {p.name for p in (out / "overlays" / "reduced").iterdir()} == {"slide.png", "store.png"}
        assert {o.status for o in infer_cases(predictor, find_inputs([folder]), out)} == {"skipped"}


def write_store(path, pixels):
    """OME-Zarr 0.5 of two levels."""
    group = zarr.open_group(str(path), mode="w")
    for level in (0, 1):
        data = np.moveaxis(pixels[:: 1 + level, :: 1 + level], -1, 0)
        array = group.create_array(str(level), shape=data.shape, chunks=(3, 64, 64), dtype=data.dtype)
        array[...] = data
    axes = [{"name": letter} for letter in "cyx"]
    datasets = [{"path": "0"}, {"path": "1"}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}


def test_overlays_of_a_picture_that_must_be_reduced(tmp_path, monkeypatch):
    monkeypatch.setattr("medseg.inference.batch.tiled_images.OVERLAY_SIZE", 100)
    source = tiled(tmp_path / "a.tif", picture(300, 450))
    predictor = Predictor(model(tmp_path), device="cpu", settings={"large_above": 0})
    infer_cases(predictor, find_inputs([source]), tmp_path / "out", BatchOptions(overlays=True))
    with Image.open(tmp_path / "out" / "overlays" / "reduced" / "a.png") as reduced:
        assert reduced.size == (90, 60)  # every 5th pixel


@pytest.mark.slow
@pytest.mark.data
def test_a_whole_slide_in_dicom(tmp_path, data_root):
    source = data_root / "wsi_dicom"
    predictor = Predictor(model(tmp_path, roi_size=(512, 512), overlap=0), device="cpu")
    (outcome,) = infer_cases(predictor, find_inputs([source]), tmp_path / "out")
    assert outcome.status == "done", outcome.error
    with tifffile.TiffFile(outcome.output) as tiff:
        assert tiff.pages[0].shape == (1547, 1680)
        numerator, denominator = tiff.pages[0].tags["XResolution"].value
        assert denominator / numerator * 1e4 == pytest.approx(15.821, abs=0.01)  # µm


def test_a_slide_for_a_model_of_volumes_is_an_error(tmp_path):
    header = ModelHeader(
        spatial_dims=3, channels=1, labels=LABELS, preprocess=PreprocessConfig(),
        inference=InferenceConfig(roi_size=(16, 16, 16)), model=UNetConfig(channels=(4, 8)),
    )  # fmt: skip
    file = tmp_path / "volumes.safetensors"
    save_model(file, header, header.model.build(header.task).state_dict())
    source = tiled(tmp_path / "a.svs", picture(100, 100))
    (outcome,) = infer_cases(Predictor(file, device="cpu"), find_inputs([source]), tmp_path / "out")
    assert "takes volumes" in outcome.error


def test_windows_may_follow_the_size_of_the_picture(tmp_path):
    source = tiled(tmp_path / "a.tif", picture(100, 90))
    file = model(tmp_path, roi_size=None, max_roi_size=(64, 64))
    found, _ = large(source, file, out=tmp_path / "out")
    assert found.shape == (100, 90)


def test_a_window_size_replaces_windows_that_follow_the_picture(tmp_path):
    file = model(tmp_path, max_roi_size=(512, 512))

    def sizes(**settings):
        inference = Predictor(file, device="cpu", settings=settings).header.inference
        return inference.roi_size, inference.max_roi_size

    assert sizes(roi_size=[32, 32]) == ((32, 32), None)
    assert sizes(overlap=0.25) == ((64, 64), (512, 512))
    assert sizes(roi_size=[32, 32], max_roi_size=[96, 96]) == ((32, 32), (96, 96))
