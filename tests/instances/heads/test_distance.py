import numpy as np
import pytest
import torch

from medseg.instances.heads.distance import (
    DistanceHead,
    contact_voxels,
    grow_cores,
    object_borders,
    object_depth,
)
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


def test_voxels_between_objects_are_the_borders_and_gaps_away_from_the_open_background():
    label_map = np.zeros((7, 12), int)
    label_map[1:6, 1:4], label_map[1:6, 4:7], label_map[1:6, 8:11] = 1, 2, 3
    target = torch.from_numpy(DistanceHead().targets(label_map, (1.0, 1.0)))[None]
    contact = contact_voxels(target)[0, 0].int().tolist()
    assert contact[0] == contact[1] == [0] * 12  # the border to the open background
    # objects 1 and 2 touch; between 2 and 3 is a gap of one pixel
    assert contact[3] == [0, 0, 0, 1, 1, 0, 1, 1, 1, 0, 0, 0]


def test_errors_between_objects_weigh_five_times_as_much():
    label_map = np.zeros((1, 1, 7, 7), int)
    label_map[0, 0, 1:6, 1:4], label_map[0, 0, 1:6, 4:6] = 1, 2
    head = DistanceHead()
    target = torch.from_numpy(head.targets(label_map[0, 0], (1.0, 1.0)))[None]
    right = torch.cat([target[:, :1], 30 * (2 * target[:, 1:] - 1)], dim=1)
    losses = []
    for voxel in ((3, 3), (3, 5)):  # the border between the objects, and the outer border
        wrong = right.clone()
        wrong[0, 1, *voxel] *= -1
        losses.append(float(head.loss(wrong, target, torch.ones_like(target[:, :1]))))
    assert losses[0] == pytest.approx(5 * losses[1])
