import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medseg.metrics import surface as surfaces
from medseg.metrics.surface import DirectedDistances, surface_distances

FAMILIES = ["surfel", "voxel"]
READERS = [
    surfaces.hausdorff,
    surfaces.hausdorff_percentile,
    surfaces.average_distance,
    surfaces.mean_average_distance,
]


def pixel(shape, *places):
    mask = np.zeros(shape, bool)
    for place in places:
        mask[place] = True
    return mask


def test_two_pixels_on_an_anisotropic_grid():
    # 3 rows of 0.5 mm and 4 columns of 2 mm apart: √(1.5² + 8²)
    distances = surface_distances(pixel((9, 9), (1, 2)), pixel((9, 9), (4, 6)), (0.5, 2.0), surface="voxel")
    for reader in READERS:
        assert reader(distances) == pytest.approx(math.hypot(1.5, 8))
    assert surfaces.surface_dice(distances, 8.0) == 0.0
    assert surfaces.surface_dice(distances, 8.14) == 1.0


def test_surfels_of_two_pixels_in_one_row():
    # 4 elements each, 2 columns (6 mm) apart: those on the facing sides are 1 element (3 mm) from the other's
    # nearest, those on the far sides 2 (6 mm)
    distances = surface_distances(pixel((3, 5), (1, 1)), pixel((3, 5), (1, 3)), (1.0, 3.0))
    assert distances.from_reference.distances.tolist() == [3.0, 6.0]
    assert distances.from_reference.counts.tolist() == [2, 2]
    assert surfaces.average_distance(distances) == pytest.approx(4.5)
    assert surfaces.hausdorff(distances) == 6.0
    assert surfaces.surface_dice(distances, 3.0) == pytest.approx(0.5)


def test_directions_of_unequal_size():
    # voxel borders: reference {0}, prediction {0, 4}: 0 one way; 0 and 4 the other
    reference, prediction = pixel((1, 5), (0, 0)), pixel((1, 5), (0, 0), (0, 4))
    distances = surface_distances(reference, prediction, (1, 1), surface="voxel")
    assert surfaces.average_distance(distances) == pytest.approx(4 / 3)  # (0 + 0 + 4) / 3
    assert surfaces.mean_average_distance(distances) == pytest.approx(1.0)  # (0 + 2) / 2
    assert surfaces.hausdorff_percentile(distances) == pytest.approx(3.8)  # 0.95 · 4, the larger direction
    assert surfaces.surface_dice(distances, 1.0) == pytest.approx(2 / 3)


def test_percentile_of_weighted_elements():
    # weights 6 3 1 of 10 at 1 2 5 mm: 60 % within 1, 90 % within 2
    directed = DirectedDistances(np.array([5.0, 1.0, 2.0]), np.array([1, 1, 1]), np.array([1.0, 6.0, 3.0]))
    assert [directed.percentile(percent) for percent in (50, 60, 61, 90, 95, 100)] == [1, 1, 2, 2, 5, 5]


def test_percentiles_that_are_reached_exactly_do_not_depend_on_rounding():
    weights = np.full(10, 0.1)  # their cumulated sums lie on both sides of the tenths
    for factor in (1.0, 3.0, 1 / 3, 7.0):
        directed = surfaces.DirectedDistances(np.arange(10.0), np.ones(10, np.intp), factor * weights)
        assert [directed.percentile(percent) for percent in range(10, 101, 10)] == list(range(10))


def test_percentile_of_equal_elements_is_that_of_the_repeated_distances():
    directed = DirectedDistances(np.array([5.0, 1.0, 2.0]), np.array([2, 3, 4]))
    repeated = [1.0] * 3 + [2.0] * 4 + [5.0] * 2
    for percent in (0, 10, 30, 31, 75, 80, 95, 100):
        assert directed.percentile(percent) == pytest.approx(np.percentile(repeated, percent))


def test_pooled_percentile_of_both_directions():
    # voxel borders: reference {0}, prediction {0, 4}: 0; 0 and 4. Together 0 0 4: 0.95 · 2 = 1.9 → 0.9 · 4
    distances = surface_distances(pixel((1, 5), (0, 0)), pixel((1, 5), (0, 0), (0, 4)), (1, 1), surface="voxel")
    assert surfaces.pooled_percentile(distances) == pytest.approx(3.6)


def test_the_tolerance_itself_is_within():
    distances = surface_distances(pixel((1, 9), (0, 0)), pixel((1, 9), (0, 3)), (1, 0.1), surface="voxel")
    assert surfaces.surface_dice(distances, 0.3) == 1.0  # 3 · 0.1 > 0.3 in floating point


@pytest.mark.parametrize("surface", FAMILIES)
@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3)])
def test_empty_masks(surface, shape):
    full, empty, spacing = np.ones(shape, bool), np.zeros(shape, bool), (1.0,) * len(shape)
    both = surface_distances(empty, empty, spacing, surface=surface)
    assert all(math.isnan(reader(both)) for reader in READERS)
    assert math.isnan(surfaces.surface_dice(both, 1.0))
    for masks in ((full, empty), (empty, full)):
        one = surface_distances(*masks, spacing, surface=surface)
        assert all(reader(one) == math.inf for reader in READERS)
        assert surfaces.surface_dice(one, 1e9) == 0.0


@pytest.mark.parametrize("surface", FAMILIES)
def test_identical_masks_have_no_distance(surface):
    mask = np.random.default_rng(0).random((8, 9, 5)) < 0.4
    distances = surface_distances(mask, mask, (0.7, 0.7, 2.5), surface=surface)
    assert [reader(distances) for reader in READERS] == [0.0] * 4
    assert surfaces.surface_dice(distances, 0.0) == 1.0


@settings(max_examples=25, deadline=None)
@given(st.data(), st.sampled_from(FAMILIES), st.sampled_from([(0.5, 2.0), (0.7, 1.0, 2.5)]))
def test_swapping_the_masks_changes_nothing(data, surface, spacing):
    masks = hnp.arrays(bool, (5, 4, 3)[: len(spacing)])
    reference, prediction = data.draw(masks), data.draw(masks)
    one = surface_distances(reference, prediction, spacing, surface=surface)
    two = surface_distances(prediction, reference, spacing, surface=surface)
    for reader in READERS:
        np.testing.assert_allclose(reader(one), reader(two), rtol=1e-12)
    np.testing.assert_allclose(surfaces.surface_dice(one, 1.0), surfaces.surface_dice(two, 1.0))


@settings(max_examples=25, deadline=None)
@given(hnp.arrays(bool, (4, 5, 3)), hnp.arrays(bool, (4, 5, 3)), st.sampled_from(FAMILIES))
def test_empty_space_around_the_masks_changes_nothing(reference, prediction, surface):
    near = surface_distances(reference, prediction, (1, 2, 3), surface=surface)
    padded = (np.pad(mask, ((7, 0), (1, 30), (3, 2))) for mask in (reference, prediction))
    far = surface_distances(*padded, (1, 2, 3), surface=surface)
    for reader in READERS:
        np.testing.assert_equal(reader(near), reader(far))


@pytest.mark.parametrize(
    ("spacing", "message"),
    [
        ((1.0, 1.0, 1.0), "3 values.*expected 2"),
        ((1.0, 0.0), "above 0"),
        ((1.0, -1.0), "above 0"),
        ((1.0, math.nan), "finite"),
    ],
)
def test_unusable_spacing(spacing, message):
    with pytest.raises(ValueError, match=message):
        surface_distances(np.ones((3, 3)), np.ones((3, 3)), spacing)


def test_unusable_arrays_and_settings():
    with pytest.raises(ValueError, match=r"shape \(3, 4\), expected the reference's \(3, 3\)"):
        surface_distances(np.ones((3, 3)), np.ones((3, 4)), (1, 1))
    with pytest.raises(ValueError, match="1 axes, expected 2 or 3"):
        surface_distances(np.ones(3), np.ones(3), (1,))
    with pytest.raises(ValueError, match="'mesh', expected 'surfel' or 'voxel'"):
        surface_distances(np.ones((3, 3)), np.ones((3, 3)), (1, 1), surface="mesh")
    with pytest.raises(ValueError, match="tolerance_mm is -1"):
        surfaces.surface_dice(surface_distances(np.ones((3, 3)), np.ones((3, 3)), (1, 1)), -1)
