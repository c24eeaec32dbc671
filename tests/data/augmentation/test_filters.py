import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from medseg.data.augmentation import filters
from medseg.data.augmentation.fields import bspline_field, bspline_matrix, smooth_field
from medseg.data.augmentation.filters import apply_curve, blur, lower_resolution, mean_and_std


@pytest.mark.parametrize("shape", [(9, 12), (6, 7, 8)])
@pytest.mark.parametrize("long", [0, 1000])
def test_the_blur_is_scipys(shape, long, monkeypatch):
    monkeypatch.setattr(filters, "_LONG", long)
    image = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    sigmas = (0.6, 1.0, 0.8)[: len(shape)]
    radius = [int(np.ceil(3.5 * s)) for s in sigmas]
    wanted = [gaussian_filter(c.astype(float), sigmas, radius=radius, mode="nearest") for c in image]
    np.testing.assert_allclose(blur(torch.from_numpy(image), sigmas).numpy(), np.stack(wanted), atol=1e-5)


def test_a_lower_resolution_by_hand():
    # half of 4 pixels: the second and the fourth (nearest to the centers 0.5 + 0.5 and 2.5 + 0.5), then linear
    image = torch.tensor([[[0.0, 1.0, 2.0, 3.0]] * 4])
    lower = lower_resolution(image, (1, 0.5))
    np.testing.assert_allclose(lower[0, 0], [1, 1.5, 2.5, 3])
    assert torch.equal(lower_resolution(image, (1, 1)), image)


@pytest.mark.parametrize("shape", [(9, 14), (6, 11, 8)])
@pytest.mark.parametrize("factor", [0.3, 0.62, 1.0])
def test_short_and_long_axes_are_coarsened_alike(shape, factor, monkeypatch):
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(2, *shape))).float()
    factors = (factor,) * len(shape)
    by_matrices = lower_resolution(image, factors)
    monkeypatch.setattr(filters, "_LONG", 0)
    torch.testing.assert_close(by_matrices, lower_resolution(image, factors), atol=1e-5, rtol=0)


def test_curves_reach_their_ends_and_clamp_beyond():
    image = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0, 3.0])
    assert apply_curve(image, 0, 2, np.array([5.0, 6.0, 8.0])).tolist() == [5.0, 5.0, 5.5, 6.0, 8.0, 8.0]


def test_mean_and_standard_deviation():
    for offset in (0, 1000):
        values = np.random.default_rng(0).normal(offset, 2, size=(3, 50, 60)).astype(np.float32)
        mean, std = mean_and_std(torch.from_numpy(values))
        assert mean == pytest.approx(values.astype(float).mean(), abs=1e-3)
        assert std == pytest.approx(values.astype(float).std(), rel=1e-3)


def test_bsplines_by_hand():
    # at control points: 1/6, 4/6, 1/6; in the middle between them: 1/48, 23/48, 23/48, 1/48
    matrix = bspline_matrix(3, 1) * 48
    np.testing.assert_allclose(matrix, [[8, 32, 8, 0], [1, 23, 23, 1], [0, 8, 32, 8]], atol=1e-5)
    np.testing.assert_allclose(bspline_matrix(20, 5).sum(1), np.ones(20), atol=1e-6)


def test_a_bspline_field_is_the_product_of_its_axes():
    coefficients = torch.zeros(1, 4, 5)
    coefficients[0, 1, 2] = 1
    field = bspline_field(coefficients, (3, 5))
    # first axis: 4/6, 23/48, 1/6; second axis, two intervals: 1/6, 23/48, 4/6, 23/48, 1/6
    first, second = np.array([32, 23, 8]) / 48, np.array([8, 23, 32, 23, 8]) / 48
    np.testing.assert_allclose(field[0], first[:, None] * second[None], atol=1e-6)


def test_smooth_fields_reach_one():
    for seed in range(5):
        field = smooth_field(np.random.default_rng(seed), (12, 13, 14), 3)
        assert field.abs().max().item() == pytest.approx(1)
