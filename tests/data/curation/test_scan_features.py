from pathlib import Path

import numpy as np
import pytest

from medseg.data.curation.scan_features import measure_scan, sharpness
from medseg.data.scans import Scan
from medseg.geometry import Grid


def picture(pixels):
    array = np.moveaxis(np.atleast_3d(pixels), -1, 0)
    return Scan(array, Grid.picture(*array.shape[1:]), "picture", Path("a.png"))


def test_percentiles_inside_and_outside_of_the_foreground():
    pixels = np.zeros((10, 10), np.uint8)
    pixels[:5] = 100
    features = measure_scan(picture(pixels), pixels > 0)
    assert features.inside == ((100, 100, 100, 100, 100),)
    assert features.outside == ((0, 0, 0, 0, 0),)
    assert features.intensities[0][2] == 50  # half of the pixels are 0, the other half 100


def test_a_picture_without_labels_has_no_foreground():
    features = measure_scan(picture(np.eye(4)))
    assert (features.inside, features.outside) == ((), ())


def test_color():
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[..., 0] = 255  # pure red: brightness 85, red - green 255, blue - (red + green) / 2 = -127.5
    features = measure_scan(picture(pixels))
    assert (features.red_green, features.blue_yellow, features.saturation) == pytest.approx((3, -1.5, 1))
    assert features.intensities == ((85, 85, 85, 85, 85),)
    gray = measure_scan(picture(np.repeat(pixels[..., :1], 3, axis=2)))
    assert (gray.red_green, gray.blue_yellow, gray.saturation) == (0, 0, 0)


def test_a_volume_has_no_color_and_every_channel():
    array = np.stack([np.zeros((4, 4, 4)), np.arange(64.0).reshape(4, 4, 4)])
    features = measure_scan(Scan(array, Grid((4, 4, 4), np.eye(4)), "volume", Path("a.nii.gz")))
    assert features.saturation is None
    assert len(features.intensities) == 2
    assert features.sharpness == 0  # the first channel is constant


def test_sharpness_does_not_depend_on_brightness_and_contrast():
    noise = np.random.default_rng(0).normal(0, 1, (64, 64))
    assert sharpness(1000 + 30 * noise) == pytest.approx(sharpness(noise), rel=1e-3)
    blurred = (noise[1:] + noise[:-1]) / 2
    assert sharpness(blurred) < 0.9 * sharpness(noise)


def test_large_scans_are_sampled(monkeypatch):
    monkeypatch.setattr("medseg.data.curation.scan_features._SAMPLE", 100)
    monkeypatch.setattr("medseg.data.curation.scan_features._BLOCK", 100)
    pixels = np.tile(np.arange(200), (200, 1))
    features = measure_scan(picture(pixels), pixels > 100)
    assert features.intensities[0][2] == pytest.approx(100, abs=20)
    assert features.inside[0][0] > 100
    # a ramp of 10 columns: gradient 1 along one axis, standard deviation sqrt((100 - 1) / 12)
    assert features.sharpness == pytest.approx(1 / np.sqrt(99 / 12), rel=1e-4)
