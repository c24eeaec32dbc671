"""Drawing of detections into the image."""

import pytest
import torch

from medseg.models.detection.detections import Detections


def detections(boxes, masks, size, **options):
    count = len(boxes)
    scores = torch.linspace(0.9, 0.5, count)
    kinds = torch.ones(count, dtype=torch.long)
    return Detections(torch.tensor(boxes), kinds, scores, torch.as_tensor(masks).float(), size, **options)


def test_a_full_mask_covers_the_voxels_whose_centers_are_in_the_box():
    found = detections([[0.4, 1.6, 2.4, 3.4]], torch.ones(1, 4, 4), (4, 5))
    # centers 0.5, 1.5 along the first axis; 2.5 along the second
    assert found.full_masks()[0].nonzero().tolist() == [[0, 2], [1, 2]]


def test_boxes_beyond_the_image_are_cut():
    found = detections([[-3.0, -3, 2, 9], [6, 6, 9, 9]], torch.ones(2, 3, 3), (4, 4))
    assert found.full_masks().sum(dim=(1, 2)).tolist() == [8, 0]
    rounded = detections([[-3.0, -3, 2, 9], [6, 6, 9, 9]], torch.ones(2, 3, 3), (4, 4), pasting="rounded")
    assert rounded.full_masks().shape == (2, 4, 4)


def test_a_mask_is_interpolated_between_its_cells():
    # cells of two voxels, centers at 1 and 3: voxel centers 0.5 | 1.5 2.5 | 3.5
    found = detections([[0.0, 0, 1, 4]], [[[0.0, 1.0]]], (1, 4))
    assert found.full_masks()[0, 0].tolist() == pytest.approx([0, 0.25, 0.75, 1])


def test_the_higher_score_wins_and_hidden_objects_are_left_out():
    boxes = [[0.0, 0, 2, 4], [0, 2, 2, 6], [0, 1, 2, 4]]  # the last one is covered
    label_map, drawn = detections(boxes, torch.ones(3, 2, 2), (2, 6)).label_map()
    assert label_map.tolist() == [[1, 1, 1, 1, 2, 2]] * 2
    assert drawn.tolist() == [0, 1]


def test_detections_in_3d_and_in_a_resized_image():
    found = detections([[0.0, 0, 0, 2, 2, 1]], torch.ones(1, 2, 2, 2), (4, 4, 2)).resized((8, 4, 2))
    assert found.boxes.tolist() == [[0, 0, 0, 4, 2, 1]]
    assert found.full_masks().sum().item() == 8
    assert len(found.select(torch.tensor([False]))) == 0


def test_no_detections():
    none = detections(torch.zeros(0, 4).tolist(), torch.zeros(0, 2, 2), (3, 3))
    label_map, drawn = Detections(torch.zeros(0, 4), none.classes, none.scores, none.masks, (3, 3)).label_map()
    assert not label_map.any()
    assert len(drawn) == 0
