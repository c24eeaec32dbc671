import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from medseg.metrics import betti_numbers
from medseg.metrics.geometry.surface_elements import neighbor_codes
from medseg.metrics.topology.betti import euler_characteristic


def test_two_dimensions():
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    assert betti_numbers(ring) == (1, 1)
    assert betti_numbers(np.pad(np.hstack([ring, np.zeros((3, 1), bool), ring[:, 1:]]), 2)) == (2, 1)
    assert betti_numbers(np.eye(2)) == (1, 0)  # diagonal neighbors are connected
    assert betti_numbers(np.zeros((3, 3))) == (0, 0)


def test_three_dimensions():
    block = np.ones((3, 3, 3), bool)
    shell, tube, both = block.copy(), block.copy(), np.ones((3, 3, 7), bool)
    shell[1, 1, 1] = False
    tube[1, 1, :] = False
    both[1, 1, :2] = both[1, 1, 4] = False  # a blind hole and a cavity
    assert betti_numbers(block) == (1, 0, 0)
    assert betti_numbers(shell) == (1, 0, 1)
    assert betti_numbers(tube) == (1, 1, 0)
    assert betti_numbers(both) == (1, 0, 1)


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(bool, (5, 6)))
def test_holes_are_the_components_of_the_background(mask):
    _, outside = ndimage.label(~np.pad(mask, 1))
    assert betti_numbers(mask)[1] == outside - 1


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(bool, (3, 4, 3)))
def test_the_euler_characteristic_counts_cells(mask):
    cells = set()
    for voxel in np.argwhere(mask):
        for offset in np.ndindex(3, 3, 3):  # in steps of half a voxel: even corners, odd middles
            cells.add(tuple(2 * voxel + offset))
    expected = sum((-1) ** sum(place % 2 for place in cell) for cell in cells)
    assert euler_characteristic(neighbor_codes(mask)) == expected


def test_errors():
    with pytest.raises(ValueError, match="1 axes"):
        betti_numbers(np.ones(4))
