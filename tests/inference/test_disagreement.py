"""Disagreement of mirrored views and of the members of an ensemble."""

import numpy as np
import pytest
from server_doubles import save_tiny

from medseg.data.scans import Scan
from medseg.geometry import Grid
from medseg.inference.disagreement import disagreement, entropy, mean_distance, views
from medseg.inference.model.predictor import Predictor


def scan_of(values, tmp_path):
    return Scan(values[None].astype(np.float32), Grid(values.shape, np.eye(4)), "volume", tmp_path / "a.nii.gz")


def predictor_of(*files):
    return Predictor(list(files), device="cpu", backend="torch", amp="off")


def test_distances_by_hand():
    a, b = np.array([0, 1, 1, 2, 0]), np.array([0, 1, 0, 0, 0])
    assert mean_distance(a, b, {0}) == pytest.approx((1 - 2 / 3 + 1) / 2)
    assert mean_distance(a, a, {0}) == 0
    assert mean_distance(np.zeros(3), np.zeros(3), {0}) == 0


def test_a_mirrored_view_is_the_mirrored_result_of_the_mirrored_scan(tmp_path):
    values = np.random.default_rng(0).normal(size=(8, 8, 8))
    predictor = predictor_of(save_tiny(tmp_path / "a.safetensors"))
    seen = views(predictor)
    assert len(seen) == 4
    plain = predictor.predict(scan_of(values, tmp_path)).label_map
    assert np.array_equal(seen[0].run(seen[0].prepare(scan_of(values, tmp_path))).label_map, plain)
    mirrored = predictor.predict(scan_of(values[:, ::-1], tmp_path)).label_map[:, ::-1]
    assert np.array_equal(seen[2].run(seen[2].prepare(scan_of(values, tmp_path))).label_map, mirrored)
    assert not np.array_equal(plain, mirrored)
    expected = [predictor.predict(scan_of(np.flip(values, axes), tmp_path)).label_map for axes in ((), 0, 1, 2)]
    expected = [np.flip(one, axes) for one, axes in zip(expected, ((), 0, 1, 2), strict=True)]
    pairs = [(i, j) for i in range(4) for j in range(i)]
    by_hand = np.mean([mean_distance(expected[i], expected[j], {0}) for i, j in pairs])
    assert disagreement(seen, scan_of(values, tmp_path)) == pytest.approx(by_hand)


def test_members_are_compared_with_each_other(tmp_path):
    files = [save_tiny(tmp_path / f"{seed}.safetensors", seed) for seed in (0, 1)]
    scan = scan_of(np.random.default_rng(0).normal(size=(8, 8, 8)), tmp_path)
    one, two = (predictor_of(file).predict(scan).label_map for file in files)
    assert disagreement(views(predictor_of(*files)), scan) == pytest.approx(mean_distance(one, two, {0}))
    assert disagreement(views(predictor_of(files[0], files[0])), scan) == 0


def test_entropy_is_zero_only_where_a_model_is_sure(tmp_path):
    predictor = predictor_of(save_tiny(tmp_path / "a.safetensors"))
    scan = scan_of(np.random.default_rng(0).normal(size=(8, 8, 8)), tmp_path)
    p = predictor.predict(scan, probabilities=True).probabilities
    assert entropy(predictor, scan) == pytest.approx(-(p * np.log(p)).sum() / (p[1:].sum() + 1), rel=1e-4)
