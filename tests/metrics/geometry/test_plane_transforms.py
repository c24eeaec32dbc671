import numpy as np
import pytest

from medseg.metrics.geometry.plane_transforms import sweep_planes, sweep_seconds, transform_grid


@pytest.mark.parametrize(
    ("shape", "spacing"), [((9, 14), (0.5, 2.0)), ((6, 11, 9), (2.0, 0.5, 1.0)), ((8, 7, 5), (1, 1, 3))]
)
def test_both_equal_brute_force(shape, spacing):
    targets = np.zeros(shape, bool)
    targets[(1,) * len(shape)] = targets[(3,) * len(shape)] = True  # most planes have no targets
    places = np.indices(shape).reshape(len(shape), -1)
    difference = (places.T[:, None] - np.argwhere(targets)[None]) * spacing
    expected = np.linalg.norm(difference, axis=2).min(axis=1)
    np.testing.assert_allclose(sweep_planes(places, targets, spacing), expected)
    np.testing.assert_allclose(transform_grid(targets, spacing).ravel(), expected)


def test_the_estimate_grows_with_planes_and_queries():
    assert sweep_seconds(1000, (50, 50, 50)) > sweep_seconds(1000, (5, 50, 50)) > sweep_seconds(1, (5, 50, 50))
