import numpy as np
import pytest

from medseg.data import chunked_statistics as slabs_module
from medseg.data.chunked_statistics import count_values, index_voxels, is_integral, look_up, mean_and_std, slabs


@pytest.fixture(autouse=True, params=[7, 1 << 20])
def size(request, monkeypatch):
    """Slabs of a few voxels, and one of all."""
    monkeypatch.setattr(slabs_module, "SLAB", request.param)


def test_slabs_cover_an_array_once():
    covered = np.zeros((3, 11, 5), int)
    for part in slabs(covered):
        covered[part] += 1
    assert (covered == 1).all()


def test_mean_and_standard_deviation():
    # (1 + 2 + 3 + 6) / 4 = 3; (4 + 1 + 0 + 9) / 4 = 3.5
    mean, std = mean_and_std(np.array([[1, 2], [3, 6]], np.int16))
    assert (mean, std) == (3, 3.5**0.5)
    many = np.random.default_rng(0).normal(3, 2, (13, 11, 9)).astype(np.float32)
    assert mean_and_std(many) == pytest.approx((many.mean(dtype=float), many.std(dtype=float)), abs=1e-12)


def test_whole_numbers():
    assert is_integral(np.array([[1, 2]], np.int16))
    assert is_integral(np.array([[1.0, 2.0]]))
    assert not is_integral(np.array([[1.0] * 20, [1.0] * 19 + [2.5]]))


@pytest.mark.parametrize("values", [[0, 5, 5, 0, 2], [-3, 4, -3, -3, 0], [0, 10**6, 7, 7, 7]])
def test_values_are_counted_and_replaced(values):
    array = np.tile(np.array(values, np.int64), (4, 3))
    expected = {v: 12 * values.count(v) for v in sorted(set(values))}
    assert count_values(array) == expected
    table = {v: i for i, v in enumerate(expected)}
    assert np.array_equal(look_up(array, table, np.dtype(np.uint8)), np.searchsorted(sorted(expected), array))


def test_index_of_voxels_by_hand():
    codes = np.array([[2, 0, 2], [1, 2, 0]], np.uint8)
    voxels, counts, offsets = index_voxels(codes, 5, 100)
    # code 0 at 1, 5; code 1 at 3; code 2 at 0, 2, 4; codes 3 and 4 nowhere
    assert voxels.tolist() == [1, 5, 3, 0, 2, 4]
    assert voxels.dtype == np.int64
    assert counts == [2, 1, 3, 0, 0]
    assert offsets == [0, 2, 3, 6, 6, 6]


def test_the_index_is_capped_and_spread():
    voxels, counts, offsets = index_voxels(np.repeat([1, 0], [101, 3]).astype(np.uint16).reshape(2, 52), 2, 5)
    assert counts == [3, 101]
    assert offsets == [0, 3, 8]
    assert voxels.tolist() == [101, 102, 103, 0, 25, 50, 75, 100]
