import numpy as np
import pytest

from medseg.errors import ConfigError
from medseg.instances.heads import rays
from medseg.instances.heads.rays import RayHead, draw_objects, measure_rays, ray_directions


@pytest.mark.parametrize(("dims", "count"), [(2, 32), (3, 96)])
def test_directions_are_unit_vectors_that_balance(dims, count):
    directions = ray_directions(dims, count)
    assert directions.shape == (count, dims)
    assert np.allclose(np.linalg.norm(directions, axis=1), 1)
    assert np.allclose(directions.sum(axis=0), 0, atol=1e-9)
    assert len(np.unique(directions.round(6), axis=0)) == count


def test_number_of_directions():
    with pytest.raises(ConfigError, match="multiple of 8, got 12"):
        RayHead.of(3, 12)


def test_rays_along_the_axes_reach_the_faces_of_a_box():
    label_map = np.zeros((9, 9), np.int32)
    label_map[2:7, 1:8] = 1  # 5 rows, 7 columns
    axes = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    lengths = measure_rays(label_map, axes, (2.0, 1.0))
    # from (3, 2): rows 4, 5, 6 below and 2 above, of 2 mm; columns 3 to 7 to the right and 1 to the left
    assert lengths[:, 3, 2].tolist() == [7.0, 3.0, 5.5, 1.5]
    assert not lengths[:, label_map == 0].any()


def test_a_diagonal_ray_ends_at_another_object():
    label_map = np.full((8, 8), 1, np.int32)
    label_map[4:, 4:] = 2
    direction = np.array([[np.sqrt(0.5), np.sqrt(0.5)]])
    lengths = measure_rays(label_map, direction, (1.0, 1.0))
    assert lengths[0, 1, 1] == pytest.approx(2.5 * np.sqrt(2))  # (2, 2) and (3, 3) are inside
    assert lengths[0, 7, 0] == pytest.approx(0.5 * np.sqrt(2))  # the face of the image, not the other side


def test_objects_with_a_center_in_another_one_are_dropped():
    directions = ray_directions(2, 8)
    lengths = np.full((8, 20, 20), 4.0)
    found = draw_objects(np.array([[5, 5], [6, 6], [5, 15]]), lengths, directions, (1.0, 1.0), 0.4)
    assert sorted(np.unique(found)) == [0, 1, 3]
    assert (found == 1).sum() == pytest.approx(np.pi * 16, rel=0.1)


def test_a_ray_of_noise_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(rays, "_LARGEST_STAR", 2**12)
    lengths = np.full((8, 40, 40, 40), 2.0)
    lengths[:, 5, 5, 5] = 1e4
    directions = ray_directions(3, 8)
    found = draw_objects(np.array([[5, 5, 5], [30, 30, 30]]), lengths, directions, (1.0, 1.0, 2.0), 0.4)
    assert np.ptp(np.nonzero(found == 1)[0]) <= 2 * 12  # 25 · 25 · 13 voxels
    assert found[30, 30, 32] == 0
    assert found[30, 30, 31] == found[32, 30, 30] == 2
