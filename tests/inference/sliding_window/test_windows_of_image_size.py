"""Windows that follow the size of the image."""

import numpy as np
import pytest
import torch
from torch import nn

from medseg.inference.sliding_window.options import Execution, SlidingWindowOptions
from medseg.inference.sliding_window.prediction import sliding_window_logits


def predict(image, **options):
    """Sliding-window means of a network with instance norm, which depends on all of a window."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.InstanceNorm2d(2)).eval()
    shapes = []

    def recorded(windows):
        shapes.append(tuple(windows.shape[2:]))
        return network(windows)

    chunks = sliding_window_logits(
        recorded, image, SlidingWindowOptions(streaming_axis=0, **options), Execution(torch.device("cpu"))
    )
    logits = torch.cat([chunk.means.clone() for chunk in chunks], dim=1)
    with torch.no_grad():
        return logits, network(torch.as_tensor(image)[None])[0], shapes


@pytest.fixture
def image():
    return np.random.default_rng(0).random((1, 64, 96), np.float32)


def test_a_window_as_large_as_the_image_gives_the_networks_own_logits(image):
    logits, expected, shapes = predict(image, roi_size=(32, 32), max_roi_size=(128, 128))
    assert shapes == [(64, 96)]
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


def test_windows_of_the_patch_size_do_not(image):
    logits, expected, _ = predict(image, roi_size=(32, 32))
    assert (logits - expected).abs().max() > 0.1


def test_windows_do_not_exceed_the_largest_size(image):
    assert set(predict(image, max_roi_size=(32, 64))[2]) == {(32, 64)}


def test_sizes_are_rounded_up_to_multiples_of_32():
    assert SlidingWindowOptions(max_roi_size=(512, 512)).window_size((33, 513)) == (64, 512)
