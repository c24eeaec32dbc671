import numpy as np
import pytest
from scipy import ndimage

from medseg.metrics.geometry import rim as rims
from medseg.metrics.geometry.rim import rim


def test_a_row_by_hand():
    mask = np.ones((1, 7), bool)
    assert rim(mask, (9.0, 1.0), 2.0)[0].tolist() == [True, True, False, False, False, True, True]
    assert not rim(mask, (9.0, 1.0), 0.5).any()


@pytest.mark.parametrize(("shape", "spacing"), [((17, 14), (0.5, 2.0)), ((11, 9, 8), (0.7, 0.9, 2.5))])
@pytest.mark.parametrize("method", ["shifts", "transform"])
def test_equals_a_distance_transform(shape, spacing, method, monkeypatch):
    monkeypatch.setattr(rims, "_MOST_SHIFTS", 10**6 if method == "shifts" else 0)
    monkeypatch.setattr(rims, "_BLOCK", 300)
    mask = np.random.default_rng(0).random(shape) < 0.97
    padded = np.pad(mask, 1)
    distances = ndimage.distance_transform_edt(padded, sampling=spacing)[(slice(1, -1),) * len(shape)]
    for width in (0.0, 0.5, 0.7, 1.6, 2.5, 30.0):
        np.testing.assert_array_equal(rim(mask, spacing, width), mask & (distances <= width + 1e-6))
