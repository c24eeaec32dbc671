"""Mirrored and scaled windows: averaged by hand, left and right exchanged."""

import numpy as np
import pytest
import torch

from medseg.data.labels.schema import LabelSchema
from medseg.inference.sliding_window.options import Execution, SlidingWindowOptions
from medseg.inference.sliding_window.overlap_tile import ReceptiveField
from medseg.inference.sliding_window.prediction import sliding_window_logits
from medseg.inference.sliding_window.tta import TTA


def position(windows):
    """Scores that depend on where in the window a voxel lies, so that a mirror shows."""
    values = torch.arange(windows[0, 0].numel(), dtype=torch.float32).reshape(windows.shape[2:])
    return windows[:, :1] * values


def test_without_augmentation_the_network_is_unchanged():
    assert TTA().wrap(position, 4) is position


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_mirrors_are_brought_back_and_averaged(batch_size):
    window = torch.randn(2, 1, 3, 4, generator=torch.Generator().manual_seed(0))
    sizes = []

    def predict(windows):
        sizes.append(len(windows))
        return position(windows)

    found = TTA(flips=(0, 1)).wrap(predict, batch_size)(window)
    expected = sum(
        position(window.flip(axes)).flip(axes) if axes else position(window) for axes in ([], [2], [3], [2, 3])
    )
    torch.testing.assert_close(found, expected / 4)
    assert sum(sizes) == 8
    assert max(sizes) <= max(batch_size, 2)  # never fewer than the windows given at once


@pytest.mark.parametrize("flips", [(1,), (0,), (0, 1)])
def test_left_and_right_are_exchanged_in_mirror_images_but_not_in_rotations_by_180_degrees(flips):
    labels = LabelSchema(names={"none": (0,), "left": (1,), "right": (2,)}, pairs=(("left", "right"),))
    assert labels.mirrored_classes == (0, 2, 1)

    # a network that sees where the head is: above, left is the first column; below, the body is turned by 180°
    def predict(windows):
        scores = torch.zeros(len(windows), 3, *windows.shape[2:])
        for one, window in zip(scores, windows, strict=True):
            left, right = (0, -1) if window[0, 0].sum() > window[0, -1].sum() else (-1, 0)
            one[1, :, left] = 1
            one[2, :, right] = 1
        return scores

    window = torch.zeros(1, 1, 2, 4)
    window[..., 0, :] = 1
    found = TTA(flips=flips, mirrored_channels=labels.mirrored_classes).wrap(predict, 1)(window)
    torch.testing.assert_close(found, predict(window))  # every view says the same
    if flips == (1,):
        wrong = TTA(flips=flips).wrap(predict, 1)(window)
        assert wrong[0, 1, 0].tolist() == [0.5, 0, 0, 0.5]


def test_regions_become_their_counterparts():
    names = {"none": (0,), "l": (1,), "r": (2,), "mid": (3,), "rest": (4,)}
    regions = {
        "all": ("l", "r", "mid", "rest"),
        "left": ("l", "mid"),
        "right": ("r", "mid"),
        "middle": ("mid",),
    }
    assert LabelSchema(names=names, regions=regions, pairs=(("l", "r"),)).mirrored_classes == (0, 2, 1, 3)
    with pytest.raises(ValueError, match="no counterpart"):
        LabelSchema(names=names, regions={"all": ("l", "r"), "left": ("l",)}, pairs=(("l", "r"),))
    with pytest.raises(ValueError, match=r"pairs: \['x'\]"):
        LabelSchema(names=names, pairs=(("l", "x"),))


def test_scales_go_up_and_come_back():
    window = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    seen = []

    def predict(windows):
        seen.append(tuple(windows.shape[2:]))
        return windows

    found = TTA(scales=(0.5, 1.5)).wrap(predict, 1)(window)
    assert seen == [(8, 8), (4, 4), (12, 12)]
    flat = TTA(scales=(0.5, 1.5)).wrap(predict, 1)(torch.ones(1, 1, 8, 8))
    torch.testing.assert_close(flat, torch.ones(1, 1, 8, 8))
    assert found.shape == (1, 1, 8, 8)


@pytest.mark.parametrize("blend", ["gaussian", "exact"])
def test_windows_are_sent_to_the_device_before_they_are_mirrored(blend):
    arrived = []

    def predict(windows):
        arrived.append((windows.device.type, tuple(windows.shape)))
        return windows

    field = ReceptiveField((0, 0), (1, 1)) if blend == "exact" else None
    options = SlidingWindowOptions(roi_size=(8, 8), overlap=0, tta=TTA((0, 1)), receptive_field=field)
    image = np.zeros((1, 8, 8), np.float32)
    chunks = sliding_window_logits(predict, image, options, Execution(torch.device("meta")))
    assert [chunk.tensor.device.type for chunk in chunks] == ["meta"]
    assert arrived == [("meta", (1, 1, 8, 8))] * 4
