import numpy as np

from medseg.instances.label_maps import keep_largest_parts, object_means, renumber, split_components


def test_parts_of_one_number_become_objects():
    parts, count = split_components(np.array([[1, 1, 0, 1], [0, 0, 0, 2]]))
    assert count == 3
    assert parts[0, 0] == parts[0, 1] != parts[0, 3] != parts[1, 3]


def test_diagonal_neighbors_are_connected():
    assert split_components(np.eye(3, dtype=np.int32))[1] == 1


def test_renumber_closes_gaps_and_returns_old_numbers():
    label_map, old = renumber(np.array([0, 5, 2, 5]))
    assert label_map.tolist() == [0, 2, 1, 2]
    assert old.tolist() == [2, 5]


def test_renumber_drops_what_is_not_kept():
    label_map, old = renumber(np.array([0, 1, 2]), np.array([False, False, True]))
    assert (label_map.tolist(), old.tolist()) == ([0, 0, 1], [2])


def test_largest_part_of_each_object_is_kept():
    # object 1: parts of 2 and 1 voxels; object 2: one part
    label_map = np.array([[1, 1, 0, 1, 0, 2]])
    assert keep_largest_parts(label_map).tolist() == [[1, 1, 0, 0, 0, 2]]


def test_means_over_objects():
    assert object_means(np.array([1.0, 3.0, 8.0]), np.array([1, 1, 3]), 3).tolist() == [2, 0, 8]
