import numpy as np
import pytest

from medseg.instances.distance import grow_cores, object_borders, object_depth
from medseg.instances.options import InstanceDecoding


def test_borders_lie_on_both_sides_but_not_at_the_edge_of_the_image():
    label_map = np.array([[1, 1, 1, 2, 2, 0]])
    assert object_borders(label_map).tolist() == [[False, False, True, True, True, False]]


def test_depth_is_1_in_the_middle_of_each_object():
    label_map = np.array([[0, 1, 1, 1, 2, 2, 2, 2, 2, 0]])
    depth = object_depth(label_map, 2, object_borders(label_map), (1.0, 1.0))
    # distances to the faces: 0.5, 1.5, 0.5 and 0.5, 1.5, 2.5, 1.5, 0.5
    assert depth[0].tolist() == pytest.approx([0, 1 / 3, 1, 1 / 3, 0.2, 0.6, 1, 0.6, 0.2, 0])


def test_two_cores_of_one_object_are_joined_unless_a_border_divides_them():
    depth = np.array([[0.1, 0.9, 0.9, 0.9, 0.2, 0.2, 0.9, 0.9, 0.9, 0.1]])
    inside = np.ones(depth.shape, bool)
    border = np.zeros(depth.shape)
    assert len(np.unique(grow_cores(depth, border, inside, (1.0, 1.0), InstanceDecoding()))) == 1
    border[0, 4:6] = 0.9
    assert len(np.unique(grow_cores(depth, border, inside, (1.0, 1.0), InstanceDecoding()))) == 2


def test_a_core_that_rises_little_above_the_saddle_is_joined_although_there_is_a_border():
    depth = np.array([[0.1, 0.9, 0.9, 0.9, 0.8, 0.8, 0.9, 0.9, 0.9, 0.1]])
    border = np.full(depth.shape, 0.5)
    found = grow_cores(depth, border, np.ones(depth.shape, bool), (1.0, 1.0), InstanceDecoding())
    assert len(np.unique(found)) == 1


def test_a_shallow_region_is_an_object():
    depth = np.full((1, 3), 0.1)
    found = grow_cores(depth, np.zeros((1, 3)), np.array([[True, True, False]]), (1.0, 1.0), InstanceDecoding())
    assert (found > 0).tolist() == [[True, True, False]]
