import itertools

import numpy as np
import pytest

from medseg.metrics.geometry import nearest_distance as nearest
from medseg.metrics.geometry.nearest_distance import Elements, distance_histogram, nearest_neighborhood

GRIDS = [((30, 24), (0.5, 2.0)), ((20, 18, 10), (0.7, 0.9, 2.5)), ((12, 12, 12), (1.0, 1.0, 1.0))]


def brute_force(queries, targets, spacing):
    points, others = (np.argwhere(mask) * spacing for mask in (queries, targets))
    return np.sort(np.linalg.norm(points[:, None] - others[None], axis=2).min(axis=1))


def repeated_distances(queries, targets, spacing):
    elements = Elements(queries, np.zeros(queries.shape, np.uint8), np.ones(1))
    histogram = distance_histogram(elements, targets, spacing)
    assert histogram.weights.tolist() == histogram.counts.tolist()
    return np.sort(np.repeat(histogram.distances, histogram.counts))


@pytest.fixture
def short_scan(monkeypatch):
    """Let the scan find shared places only."""
    monkeypatch.setattr(nearest, "_SCAN_OFFSETS", 1)
    nearest_neighborhood.cache_clear()
    yield
    nearest_neighborhood.cache_clear()


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_the_scan(shape, spacing):
    rng = np.random.default_rng(0)
    queries, targets = rng.random(shape) < 0.2, rng.random(shape) < 0.02
    expected = brute_force(queries, targets, spacing)
    np.testing.assert_allclose(repeated_distances(queries, targets, spacing), expected, rtol=1e-12)


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
@pytest.mark.parametrize("method", ["tree", "sweep", "grid"])
def test_methods_for_distant_voxels(shape, spacing, method, monkeypatch, short_scan):
    monkeypatch.setattr(nearest, "sweep_seconds", lambda *_: 1e9 if method == "tree" else 0.0)
    monkeypatch.setattr(nearest, "_DENSE", 0 if method == "grid" else 9)
    monkeypatch.setattr(nearest, "_BLOCK", 100)
    rng = np.random.default_rng(0)
    queries, targets = rng.random(shape) < 0.2, rng.random(shape) < 0.02
    expected = brute_force(queries, targets, spacing)
    np.testing.assert_allclose(repeated_distances(queries, targets, spacing), expected, rtol=1e-12)


def test_distances_beyond_the_scan():
    queries, targets = np.zeros((60, 40), bool), np.zeros((60, 40), bool)
    queries[0, 0] = queries[59, 38] = targets[59, 39] = True
    # the next column, and 59 rows of 1 mm and 39 columns of 2 mm away
    assert repeated_distances(queries, targets, (1.0, 2.0)).tolist() == pytest.approx([2, np.hypot(59, 78)])


def test_weights_follow_the_codes():
    queries, targets = np.zeros((1, 90), bool), np.zeros((1, 90), bool)
    queries[0, [0, 1, 2, 80]] = targets[0, 0] = True
    codes = np.zeros((1, 90), np.uint8)
    codes[0, [1, 80]] = 1, 2
    histogram = distance_histogram(Elements(queries, codes, np.array([1.0, 10.0, 100.0])), targets, (1, 1))
    found = dict(zip(histogram.distances.tolist(), histogram.weights.tolist(), strict=True))
    assert found == {0.0: 1.0, 1.0: 10.0, 2.0: 1.0, 80.0: 100.0}


@pytest.mark.parametrize(
    "spacing", [(1.0, 1.0), (1.0, 50.0), (1.0, 1.0, 1.0), (0.7, 0.7, 5.0), (0.001, 1.0, 1.0)]
)
def test_offsets_are_the_nearest_in_groups_of_equal_length(spacing):
    neighborhood = nearest_neighborhood(spacing)
    offsets, lengths = neighborhood.offsets, neighborhood.lengths
    assert 200 < len(offsets) <= 512
    assert (np.diff(lengths) > 0).all()
    assert lengths[0] == 0
    every = np.linalg.norm(offsets * np.array(spacing), axis=1)
    np.testing.assert_allclose(every, np.repeat(lengths, np.diff(neighborhood.starts)))
    taken = set(map(tuple, offsets.tolist()))
    reach = [range(-int(width) - 1, int(width) + 2) for width in np.abs(offsets).max(axis=0)]
    if np.prod([len(steps) for steps in reach]) < 10_000:
        left_out = [step for step in itertools.product(*reach) if step not in taken]
        shortest = min(np.linalg.norm(np.array(step) * spacing) for step in left_out)
        assert shortest >= lengths[-1] - 1e-12


def test_the_tree_is_slow_where_everything_is_far_and_equally_far():
    # a point inside a sphere of 30 voxels: all of its surface is about as near, for each of many queries
    axes = np.ogrid[:81, :81, :81]
    radius = np.sqrt(sum((axis - 40.0) ** 2 for axis in axes))
    shell, core = np.abs(radius - 39) < 0.7, radius < 9
    points = np.argwhere(core).astype(float)
    tree = nearest.point_tree(np.argwhere(shell).astype(float), 32)
    each = [nearest.tree_seconds(tree, points[:64], 1000, 1.0), nearest.tree_seconds(tree, points[:64], 1, 1.0)]
    assert each[0] == pytest.approx(1000 * each[1])
    near = np.argwhere(shell)[:64] + 0.5
    assert each[0] > 5 * nearest.tree_seconds(tree, near, 1000, 1.0)
