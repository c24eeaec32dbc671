"""Anchors: shapes, positions, and planning from objects."""

import numpy as np
import pytest
import torch

from medseg.errors import ConfigError
from medseg.models.detection.anchors import AnchorOptions, grid_anchors, plan_shapes


def test_ratios_keep_the_area_and_the_volume():
    [flat], [solid] = (AnchorOptions(sizes=(8,), ratios=(0.5,)).resolve(1, dims) for dims in (2, 3))
    assert flat[0] == pytest.approx((8 / 2**0.5, 8 * 2**0.5))
    assert np.prod(solid[0]) == pytest.approx(512)
    assert solid[0][0] / solid[0][1] == pytest.approx(0.5)


def test_anchors_are_centered_at_multiples_of_the_stride():
    anchors = grid_anchors([[(4.0, 2.0)]], (8, 8), [torch.zeros(1, 1, 2, 4)], rounded=False)[0]
    assert len(anchors) == 8
    assert anchors[0].tolist() == [-2, -1, 2, 1]
    assert anchors[1].tolist() == [-2, 1, 2, 3]  # the last axis is the fastest: stride 8 / 4
    assert anchors[4].tolist() == [2, -1, 6, 1]  # stride 8 / 2


def test_wrong_levels_and_axes_are_errors():
    with pytest.raises(ConfigError, match="5 levels, but the feature pyramid has 4"):
        AnchorOptions().resolve(4, 2)
    with pytest.raises(ConfigError, match="has 3 sides, expected 2"):
        AnchorOptions(shapes=(((4, 4, 4),),)).resolve(1, 2)


def test_shapes_are_planned_from_the_objects():
    # sizes 10 to 40, all twice as wide as high
    size = np.linspace(10, 40, 50)
    sides = np.stack([size / 2**0.5, size * 2**0.5], axis=1)
    shapes = np.array(AnchorOptions(shapes="auto", per_level=1).planned(sides, 3).shapes)
    assert shapes.shape == (3, 1, 2)
    np.testing.assert_allclose(shapes[:, 0, 1] / shapes[:, 0, 0], 2, rtol=1e-3)
    np.testing.assert_allclose(np.sqrt(shapes.prod(axis=2)[[0, -1], 0]), [11.5, 38.5], rtol=0.02)


def test_flat_objects_in_3d_have_flat_anchors():
    rng = np.random.default_rng(0)
    sides = np.array([12.0, 12, 4]) * rng.uniform(0.9, 1.1, (200, 3))
    shapes = np.array(plan_shapes(sides, 2, 3))
    assert shapes.shape == (2, 3, 3)
    assert (shapes[..., 2] < 0.5 * shapes[..., 0]).all()
    assert shapes[1].prod() > 1.3 * shapes[0].prod()  # at least a factor of 1.4 in size


def test_without_objects_the_options_stay():
    options = AnchorOptions(shapes="auto")
    assert options.planned(np.zeros((0, 2)), 5) is options
    assert len(options.resolve(5, 2)) == 5
