import numpy as np
import pytest

from medseg.metrics.typed_wrappers import components


def test_components_of_a_boolean_picture():
    # cc3d 4.1 numbers a pixel of the second row when it is given the boolean array itself
    mask = np.zeros((4, 7), bool)
    mask[0, :4] = mask[3, 6] = True
    numbers = components(mask)
    assert ((numbers > 0) == mask).all()
    assert len(np.unique(numbers[mask])) == 2


@pytest.mark.parametrize("shape", [(1, 3, 1), (8, 1, 1), (1, 8), (3, 0)])
def test_components_of_thin_arrays(shape):
    mask = np.zeros(shape, bool)
    mask.flat[::2] = True
    assert components(mask).max(initial=0) == mask.sum()
