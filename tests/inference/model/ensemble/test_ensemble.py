"""Ensembles: probabilities averaged on the scan's grid, whatever the grids of the members."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from conftest import write_volume

from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.normalization import Range
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.errors import ConfigError, ModelFileError
from medseg.inference.model.array_allocation import allocate_or_memmap
from medseg.inference.model.ensemble.mean import average_chunks
from medseg.inference.model.model_file import LoadedModel, ModelHeader
from medseg.inference.model.predictor import Predictor
from medseg.inference.options import InferenceConfig
from medseg.inference.sliding_window.output_chunk import OutputChunk
from medseg.inference.sliding_window.tta import TrainedAugmentation
from medseg.models import UNetConfig

LABELS = LabelSchema(names={"no": (0,), "a": (1,), "b": (5,)})


def model(seed, *, labels=LABELS, spacing=None, dims=3, **inference):
    header = ModelHeader(
        spatial_dims=dims,
        channels=1,
        labels=labels,
        preprocess=PreprocessConfig(spacing=spacing, normalize=Range(low=0, high=1)),
        inference=InferenceConfig(**{"roi_size": (8,) * dims, "overlap": 0.25, **inference}),
        model=UNetConfig(channels=(4, 8)),
        augmentation=TrainedAugmentation(mirror_axes=(0, 1, 2)),
    )
    torch.manual_seed(seed)
    return LoadedModel(header, dict(header.model.build(header.task).state_dict()), f"digest{seed}")


@pytest.fixture
def scan(tmp_path):
    voxels = np.random.default_rng(0).normal(size=(18, 9, 13)).astype(np.float32)
    return write_volume(tmp_path / "s.nii.gz", voxels, np.diag([-1.5, 1, 2, 1]))


def planes(tensor, start, stop):
    return OutputChunk.of_planes(tensor[:, start:stop], start, axis=0)


def test_chunks_that_end_at_different_planes():
    a, b = torch.rand(2, 7, 3), torch.rand(2, 7, 3)
    ours = [planes(a, 0, 2), planes(a, 2, 7)]
    others = [planes(b, 0, 3), planes(b, 3, 4), planes(b, 4, 7)]
    merged = list(average_chunks([iter(ours), iter(others)]))
    assert [one.start for one in merged] == [0, 2, 3, 4]
    torch.testing.assert_close(torch.cat([one.tensor for one in merged], dim=1), (a + b) / 2)
    with pytest.raises(ValueError, match="end before those of another"):
        list(average_chunks([iter(ours), iter(others[:2])]))


def test_the_mean_of_the_members_probabilities(scan):
    models = [model(1), model(2, spacing=(1, 1, 1)), model(3, roi_size=(16, 8, 8))]
    single = [Predictor(one, amp="off").predict(scan, probabilities=True).probabilities for one in models]
    together = Predictor(models, amp="off").predict(scan, probabilities=True)
    expected = np.mean(single, axis=0)
    np.testing.assert_allclose(together.probabilities, expected, atol=2e-6)
    values = np.array([0, 1, 5])[expected.argmax(axis=0)]
    assert (together.label_map == values).mean() > 0.999  # except ties within rounding
    assert Predictor(models[:1]).digest == "digest1"
    assert Predictor(models).digest not in ("digest1", Predictor(models[:2]).digest)


def test_models_with_other_labels_or_dimensions_are_rejected():
    with pytest.raises(ModelFileError, match="names of labels: got no, c, b, expected no, a, b as in the"):
        Predictor([model(1), model(2, labels=LabelSchema(names={"no": (0,), "c": (1,), "b": (5,)}))])
    merged = LabelSchema(names={"no": (0, 7), "a": (1,), "b": (5,)})
    with pytest.raises(
        ModelFileError, match=r"labels: got names=\{'no': \(0, 7\)[^=]*, expected names=[^=]* as in the"
    ):
        Predictor([model(1), model(2, labels=merged)])
    with pytest.raises(ModelFileError, match="dimensions: got 2, expected 3"):
        Predictor([model(1), model(2, dims=2)])


def test_settings_can_be_changed(scan):
    one = model(1)
    plain = Predictor(one, amp="off").predict(scan, probabilities=True)
    flipped = Predictor(one, amp="off", settings={"flips": [0, 1, 2]}).predict(scan, probabilities=True)
    assert np.abs(plain.probabilities - flipped.probabilities).max() > 1e-3
    for wrong, message in (
        ({"overlap": 2}, "overlap"),
        ({"roi": 3}, "roi"),
        ({"flips": [3]}, "flips"),
        ({"flips": [0, 0]}, "an axis appears twice"),
        ({"scales": [100]}, "scales"),
        ({"postprocess": {"largest": ["no"]}}, r"unknown labels \['no'\]; the model predicts \['a', 'b'\]"),
        ({"roi_size": [4, 4]}, "3 axes"),
        ({"scales": [2.0]}, "2D networks only"),
    ):
        with pytest.raises(ConfigError, match=message):
            Predictor(one, settings=wrong)


def test_a_mirrored_scan_gives_a_mirrored_prediction_with_all_flips(scan):
    predictor = Predictor(model(1), amp="off", settings={"flips": [0, 1, 2], "roi_size": [18, 10, 14]})
    source = predictor.prepare(scan).scan
    mirrored = type(source)(
        np.flip(source.array, 1).copy(), source.grid, source.kind, source.path, source.header
    )
    one = predictor.predict(source, probabilities=True).probabilities
    two = predictor.predict(mirrored, probabilities=True).probabilities
    assert np.abs(np.flip(two, 1) - one)[:, :, :8].max() < 0.05  # except the padding, which is at one end


def test_windows_of_air_are_skipped(scan, tmp_path):
    voxels = np.full((40, 9, 9), -1000, np.float32)
    voxels[:8] = np.random.default_rng(0).normal(size=(8, 9, 9))
    path = write_volume(tmp_path / "air.nii.gz", voxels)
    everything = Predictor(model(1), amp="off").predict(path).label_map
    some = Predictor(model(1), amp="off", settings={"skip_below": -900}).predict(path).label_map
    assert np.array_equal(some[:2], everything[:2])
    assert not some[16:].any()
    nothing = Predictor(model(1), settings={"skip_below": 1e6}).predict(path).label_map
    assert not nothing.any()
    assert nothing.shape == (40, 9, 9)


def test_windows_far_from_the_foreground_are_skipped(tmp_path):
    path = write_volume(tmp_path / "long.nii.gz", np.random.default_rng(0).normal(size=(40, 9, 11)))
    predictor = Predictor(model(1), amp="off")
    everything = predictor.predict(path, probabilities=True)
    inside = np.zeros((40, 9, 11), bool)
    inside[3, 4, 5] = True
    some = predictor.predict(path, probabilities=True, foreground=inside)
    assert np.array_equal(some.label_map[:2], everything.label_map[:2])
    assert np.array_equal(some.probabilities[:, :2], everything.probabilities[:, :2])
    assert everything.label_map[16:].any()
    assert not some.label_map[16:].any()
    with pytest.raises(ValueError, match="foreground"):
        predictor.predict(path, foreground=inside[1:])
    with pytest.raises(ConfigError, match="exact"):
        Predictor(model(1), settings={"blend": "exact"}).predict(path, foreground=inside)


def test_large_probabilities_are_kept_on_disk(scan, tmp_path, monkeypatch):
    predictor = Predictor(model(1), amp="off")
    ready = predictor.prepare(scan)
    expected = predictor.run(ready, probabilities=True).probabilities
    monkeypatch.setattr(
        "medseg.inference.model.predictor.allocate_or_memmap", partial(allocate_or_memmap, in_memory=100)
    )
    found = predictor.run(ready, probabilities=True, scratch=tmp_path / "new").probabilities
    mapped = found
    while mapped is not None and not isinstance(mapped, np.memmap):
        mapped = mapped.base
    assert mapped is not None
    assert np.array_equal(found, expected)
    assert not list((tmp_path / "new").iterdir())  # its file has no name


def test_a_full_disk_is_reported(tmp_path):
    with pytest.raises(OSError, match=r"no space for .* of probabilities in"):
        allocate_or_memmap((2**40,), tmp_path, in_memory=100)


@pytest.mark.slow
def test_out_of_memory_falls_back_to_smaller_batches_then_to_the_cpu(scan, monkeypatch):
    predictor = Predictor(model(1), amp="off")
    tried = []
    real = predictor._run

    def run(ready, probabilities, execution):
        tried.append((execution.batch_size, execution.accumulator_device.type))
        if len(tried) < 4:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        execution = replace(execution, device=torch.device("cpu"))
        predictor.device = torch.device("cpu")
        return real(ready, probabilities, execution)

    monkeypatch.setattr(predictor, "_run", run)
    predictor.device = torch.device("cuda")
    prediction = predictor.run(predictor.prepare(scan))
    assert tried == [(4, "cuda"), (2, "cuda"), (1, "cuda"), (1, "cpu")]
    assert prediction.notes[-1] == "out of memory: logits summed on the CPU"


def test_exact_tiles_equal_the_whole_image(tmp_path):
    voxels = np.random.default_rng(0).normal(size=(60, 9, 13)).astype(np.float32)
    scan = write_volume(tmp_path / "long.nii.gz", voxels)
    torch.manual_seed(0)
    header = model(1).header.model_copy(update={"model": UNetConfig(channels=(4, 8), norm="batch")})
    one = LoadedModel(header, dict(header.model.build(header.task).state_dict()), "d")
    whole = Predictor(one, amp="off", settings={"roi_size": [60, 9, 13]}).predict(scan, probabilities=True)
    exact = {"blend": "exact", "roi_size": [24, 14, 14]}
    tiles = Predictor(one, settings=exact).predict(scan, probabilities=True)
    np.testing.assert_allclose(tiles.probabilities, whole.probabilities, atol=1e-5)
    with pytest.raises(ConfigError, match="depend on the tile"):
        Predictor(model(1), settings=exact).predict(scan)
