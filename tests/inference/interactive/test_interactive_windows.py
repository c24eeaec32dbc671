"""Windows over a scan: what they read, and where results are written."""

import numpy as np
import pytest

from medseg.inference.interactive import windows as windows_module
from medseg.inference.interactive.windows import (
    ScanWindows,
    nearest_any,
    nearest_mask,
    nearest_region,
    resample_logits,
)


def windows_over(image, shape, scale=None, axes=None, flipped=None):
    dims = image.ndim
    return ScanWindows(
        image[None], lambda voxels: voxels, axes or tuple(range(dims)), flipped or (False,) * dims,
        scale or (1.0,) * dims, shape,
    )  # fmt: skip


def test_a_window_at_the_networks_resolution_is_a_crop():
    image = np.arange(100, dtype=np.float32).reshape(10, 10)
    windows = windows_over(image, (4, 4))
    frame = windows.frame(np.array([5.0, 5.0]), 1.0)
    assert frame.start == (3.0, 3.0)
    assert np.array_equal(windows.read(frame)[0], image[3:7, 3:7])
    frame = windows.frame(np.array([0.0, 10.0]), 1.0)  # moved into the scan
    assert np.array_equal(windows.read(frame)[0], image[:4, 6:])


def test_a_scan_that_is_smaller_is_in_the_middle_with_zeros_around():
    windows = windows_over(np.ones((3, 8), np.float32), (6, 4))
    read = windows.read(windows.frame(np.array([1.5, 4.0]), 1.0))[0]
    assert read[:, 0].tolist() == [0, 1, 1, 1, 0, 0]  # as training patches, which begin at -((6 - 3) // 2)
    inside = windows.read_mask(np.ones((3, 8), bool), windows.frame(np.array([1.5, 4.0]), 1.0))
    assert inside[:, 0].tolist() == [False, True, True, True, False, False]


@pytest.mark.parametrize("zoom", [1.0, 1.5, 2.0, 3.7])
def test_a_ramp_is_interpolated_exactly(zoom):
    rows, columns = np.mgrid[:64, :64]
    windows = windows_over((2.0 * rows + columns).astype(np.float32), (8, 8), scale=(0.8, 1.3))
    frame = windows.frame(np.array([30.0, 30.0]), zoom)
    at = [(np.arange(8) + 0.5) / frame.scale[i] + frame.start[i] - 0.5 for i in (0, 1)]
    expected = 2 * at[0][:, None] + at[1][None, :]
    assert np.allclose(windows.read(frame)[0], expected, atol=1e-3)


def test_logits_return_to_the_voxels_that_they_cover():
    windows = windows_over(np.zeros((32, 32), np.float32), (8, 8))
    frame = windows.frame(np.array([16.0, 16.0]), 2.0)  # covers 8 to 24, two voxels each
    logits = np.full((8, 8), -1.0, np.float32)
    logits[2:4, 2:4] = 1.0  # voxels 12 to 16
    region = windows.covered(frame)
    assert region == (slice(8, 24), slice(8, 24))
    mask = resample_logits(logits, frame, region)
    assert np.argwhere(mask).min(axis=0).tolist() == [4, 4]
    assert np.argwhere(mask).max(axis=0).tolist() == [7, 7]


@pytest.mark.parametrize("zoom", [0.4, 1.0, 2.7])  # voxels of a window are finer, equal, coarser
def test_what_a_region_holds_of_a_mask_is_found_without_drawing_it(zoom):
    rng = np.random.default_rng(0)
    windows = windows_over(np.zeros((40, 50), np.float32), (8, 8))
    for _ in range(100):
        frame = windows.frame(rng.uniform(0, 50, 2), zoom)
        mask = rng.random((8, 8)) < 0.03
        low = rng.integers(0, 30, 2)
        region = tuple(slice(int(a), int(a + n)) for a, n in zip(low, rng.integers(0, 12, 2), strict=True))
        drawn = nearest_mask(mask, frame, region)
        assert nearest_any(mask, frame, region) == drawn.any()
        part = nearest_region(mask, frame, region)
        outside = drawn.copy()
        if part is not None:
            inside = tuple(
                slice(a.start - b.start, a.stop - b.start) for a, b in zip(part, region, strict=True)
            )
            outside[inside] = False
            assert np.array_equal(nearest_mask(mask, frame, part), drawn[inside])
        assert not outside.any()


def test_logits_are_interpolated_the_same_in_parts(monkeypatch):
    windows = windows_over(np.zeros((40, 50, 30), np.float32), (8, 8, 8), scale=(0.9, 1.0, 0.7))
    frame = windows.frame(np.array([20.0, 20.0, 15.0]), 2.3)
    logits = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    region = windows.covered(frame)
    whole = resample_logits(logits, frame, region)
    monkeypatch.setattr(windows_module, "_PART_VOXELS", 700)  # one or two planes
    assert np.array_equal(resample_logits(logits, frame, region), whole)
    assert resample_logits(logits, frame, (slice(3, 3), *region[1:])).size == 0


def test_a_margin_is_left_out_except_at_the_border_of_the_scan():
    windows = windows_over(np.zeros((32, 8), np.float32), (8, 8))
    frame = windows.frame(np.array([4.0, 4.0]), 1.0)
    assert windows.covered(frame, 0.25) == (slice(0, 6), slice(0, 8))


def test_the_axes_of_the_scan_are_turned():
    array = np.arange(24).reshape(2, 3, 4)
    windows = windows_over(
        array.transpose(2, 0, 1)[::-1], (2, 2, 2), axes=(2, 0, 1), flipped=(True, False, False)
    )
    assert np.array_equal(windows.oriented(array), windows.image[0])
    windows.oriented(array)[0, 1, 2] = -1  # a view
    assert array[1, 2, 3] == -1
