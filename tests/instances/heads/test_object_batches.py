import numpy as np

from medseg.instances.heads.object_batches import object_batches


def test_every_object_comes_back_to_its_place():
    label_map = np.zeros((20, 30), np.int32)
    label_map[0:3, 0:4], label_map[5:19, 8:30], label_map[19, 0] = 1, 2, 3
    drawn = np.zeros_like(label_map)
    for batch in object_batches(label_map):
        batch.scatter(np.broadcast_to(batch.numbers[:, None, None], batch.masks.shape), drawn)
        assert not batch.masks[:, 0].any()  # a margin of a voxel
        assert not batch.masks[..., -1].any()
    assert np.array_equal(drawn, label_map)


def test_objects_of_similar_size_are_one_group():
    label_map = np.zeros((40, 40), np.int32)
    for number, (row, column) in enumerate([(2, 2), (2, 20), (20, 2)], start=1):
        label_map[row : row + 6, column : column + 5] = number
    groups = list(object_batches(label_map))
    assert [len(group.numbers) for group in groups] == [3]
    assert groups[0].extents.tolist() == [[6, 5]] * 3


def test_no_objects():
    assert list(object_batches(np.zeros((4, 4), np.int32))) == []
