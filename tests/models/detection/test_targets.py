"""Objects of label maps as targets."""

import numpy as np
import torch

from medseg.models.detection.targets import detection_targets


def test_boxes_classes_and_ids():
    label_map = np.array([[0, 300, 300, 0], [5, 0, 300, 0], [5, 0, 0, 9]])
    targets = detection_targets(label_map[None], {300: 2, 5: 1, 9: 1}, smallest=2)
    assert targets.ids.tolist() == [5, 300]  # 9 has a single voxel
    assert targets.classes.tolist() == [1, 2]
    assert targets.boxes.tolist() == [[1, 0, 3, 1], [0, 1, 2, 3]]
    assert targets.class_map().tolist() == [[0, 2, 2, 0], [1, 0, 2, 0], [1, 0, 0, -1]]


def test_overlapping_objects_lie_in_layers():
    layers = np.array([[[1, 1, 0]], [[0, 2, 2]]])
    targets = detection_targets(layers, {1: 1, 2: 2})
    assert targets.layers.tolist() == [0, 1]
    assert targets.boxes.tolist() == [[0, 0, 1, 2], [0, 1, 1, 3]]
    assert targets.class_map().tolist() == [[1, 2, 2]]


def test_ignored_voxels_and_objects_without_class():
    targets = detection_targets(np.array([[[-1, 0, 4, 6]]]), {4: 0, 6: 1})
    assert targets.ids.tolist() == [6]
    assert targets.ignored.tolist() == [[0, 0, 1, 1], [0, 2, 1, 3]]
    assert targets.class_map().tolist() == [[-1, 0, -1, 1]]


def test_empty_pictures_and_volumes():
    for dims in (2, 3):
        targets = detection_targets(np.zeros((1, *(4,) * dims), int))
        assert len(targets) == 0
        assert targets.boxes.shape == (0, 2 * dims)
        assert not targets.class_map().any()
        assert targets.to(torch.device("cpu")).classes.dtype == torch.long
