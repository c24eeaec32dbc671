"""Sizes, thickness and position of structures."""

import numpy as np
import pytest

from medseg.data.labels.schema import LabelSchema
from medseg.planning.structures import (
    inscribed_radius,
    measure_background,
    measure_classes,
    measure_structure,
    separate,
    weighted_median,
)

LABELS = LabelSchema(names={"background": (0,), "dot": (1,), "bar": (2,)})


def test_components_are_counted_and_measured():
    encoded = np.ones((20, 30), np.uint8)
    encoded[2:4, 2:4] = 2  # 4 pixels
    encoded[10, 20:28] = 2  # 8 pixels
    encoded[0, 0] = encoded[1, 1] = 2  # joined to the first by corners: 6 pixels
    encoded[15:18, 0:30] = 3
    measured = measure_classes(encoded, LABELS)
    assert list(measured) == ["dot", "bar"]
    assert measured["dot"].components == 2
    assert measured["dot"].component_voxels == 8  # 6 of 14 pixels are in the smaller one
    assert measured["bar"].radius == 2  # three rows: the middle one is 2 from the background
    assert measured["bar"].center == pytest.approx((16 / 19, 0.5))
    assert measured["bar"].extent == pytest.approx((3 / 20, 1), abs=0.02)


def test_the_first_label_counts_where_there_is_no_background():
    encoded = np.ones((4, 4), np.uint8)
    schema = LabelSchema(names={"sky": (0,), "road": (1,)}, background=False)
    assert list(measure_classes(encoded, schema)) == ["sky"]


def test_a_ball_has_its_radius():
    grid = np.stack(np.meshgrid(*[np.arange(-12, 13)] * 3, indexing="ij"))
    assert inscribed_radius((grid**2).sum(axis=0) <= 100) == pytest.approx(10, abs=0.6)


def test_a_thin_line_has_radius_1():
    line = np.zeros((9, 9), bool)
    np.fill_diagonal(line, True)
    assert inscribed_radius(line) == 1
    assert inscribed_radius(~line & False) == 0


def test_large_structures_are_measured_in_their_middle(monkeypatch):
    monkeypatch.setattr("medseg.planning.structures._MOST_VOXELS", 100)
    encoded = np.ones((50, 5), np.uint8)
    encoded[:, 1:4] = 2
    assert measure_classes(encoded, LABELS)["dot"].radius == 2


def test_specks_do_not_count():
    encoded = np.ones((60, 60), np.uint8)
    encoded[::4, :8] = 2  # 15 rows of 8
    encoded[20:41, 20:41] = 3
    encoded[1:60:8, 50:60:4] = 3  # 24 specks
    square = measure_classes(encoded, LABELS)["bar"]
    assert (square.components, square.component_voxels) == (25, 441)
    assert square.radius == 11


def test_the_weighted_median():
    assert weighted_median(np.array([3, 1, 2]), np.array([1, 1, 1])) == 2
    assert weighted_median(np.array([3, 1, 2]), np.array([5, 1, 1])) == 3
    assert weighted_median(np.array([]), np.array([])) == 0


def test_background_between_cells_is_thin():
    encoded = np.full((40, 40), 2, np.uint8)
    encoded[10:13] = encoded[:, 20:23] = 1
    assert measure_background(encoded, LABELS) == 2.0
    assert measure_background(encoded[None], LABELS) is None


def test_objects_that_touch_are_measured_one_by_one():
    encoded, objects = np.ones((14, 24), np.uint8), np.zeros((14, 24), np.int32)
    encoded[2:12, 2:22] = 2
    objects[2:12, 2:12], objects[2:12, 12:22] = 1, 2
    whole, apart = (
        measure_structure(one, 2, (slice(2, 12), slice(2, 22))) for one in (encoded, separate(encoded, objects))
    )
    assert (whole.components, whole.component_voxels) == (1, 200)
    assert (apart.components, apart.component_voxels) == (2, 90)  # without a column of contact each
