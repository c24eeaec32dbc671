import itertools

import numpy as np
import pytest

from medseg.metrics.geometry import nearest_distance as nearest
from medseg.metrics.geometry.nearest_distance import (
    grid_indices,
    nearest_distances,
    nearest_offsets,
    scan_neighbors,
)

GRIDS = [((30, 24), (0.5, 2.0)), ((20, 18, 10), (0.7, 0.9, 2.5)), ((12, 12, 12), (1.0, 1.0, 1.0))]


def brute_force(queries, targets, spacing):
    points, others = (np.argwhere(mask) * spacing for mask in (queries, targets))
    return np.linalg.norm(points[:, None] - others[None], axis=2).min(axis=1)


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
@pytest.mark.parametrize("way", ["scan", "tree", "transform"])
def test_every_method_gives_the_same_distances(shape, spacing, way, monkeypatch):
    rng = np.random.default_rng(0)
    queries, targets = rng.random(shape) < 0.2, rng.random(shape) < 0.02
    if way != "scan":
        monkeypatch.setattr(nearest, "_SCAN_OFFSETS", 1)  # nothing but shared places
        monkeypatch.setattr(nearest, "tree_is_slow", lambda *_: way == "transform")
    expected = brute_force(queries, targets, spacing)
    np.testing.assert_allclose(nearest_distances(queries, targets, spacing), expected, rtol=1e-12)


@pytest.mark.parametrize("slow", [False, True])
def test_distances_beyond_the_neighbor_scan_are_exact(slow, monkeypatch):
    monkeypatch.setattr(nearest, "tree_is_slow", lambda *_: slow)
    queries, targets = np.zeros((60, 40), bool), np.zeros((60, 40), bool)
    queries[0, 0] = queries[59, 38] = targets[59, 39] = True
    # 59 rows of 1 mm and 39 columns of 2 mm away, and the next column
    expected = [np.hypot(59, 78), 2.0]
    np.testing.assert_allclose(nearest_distances(queries, targets, (1.0, 2.0)), expected)


def test_the_neighbor_scan_returns_unresolved_queries():
    queries, targets = np.zeros((3, 90), bool), np.zeros((3, 90), bool)
    queries[1, [0, 5, 80]] = targets[1, [5, 6]] = True
    distances, left = scan_neighbors(grid_indices(queries), targets, (1.0, 1.0))
    assert distances[:2].tolist() == [5.0, 0.0]
    assert np.isnan(distances[2])
    assert left.tolist() == [2]


@pytest.mark.parametrize(
    "spacing", [(1.0, 1.0), (1.0, 50.0), (1.0, 1.0, 1.0), (0.7, 0.7, 5.0), (0.001, 1.0, 1.0)]
)
def test_offsets_are_the_nearest_and_in_order(spacing):
    offsets, lengths = nearest_offsets(spacing)
    assert 100 < len(offsets) <= 256
    assert (np.diff(lengths) >= 0).all()
    assert lengths[0] == 0
    np.testing.assert_allclose(np.linalg.norm(offsets * np.array(spacing), axis=1), lengths)
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
    assert nearest.tree_is_slow(tree, points, shell.size, 1.0)
    assert not nearest.tree_is_slow(tree, points[:5], shell.size, 1.0)
