"""Masks of an earlier segmentation as further channels."""

from pathlib import Path

import numpy as np

from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.masks import (
    ImageWithMasks,
    mask_count,
    mirrored_masks,
    one_hot_masks,
    prepare_masks,
)
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.data.scans import Scan
from medseg.geometry import Grid

LABELS = LabelSchema(names={"no": (0,), "left": (5, 6), "right": (9,)}, pairs=(("left", "right"),))


def scan_of(label_map, affine=None):
    affine = np.eye(4) if affine is None else affine
    return Scan(label_map[None].astype(np.float32), Grid(label_map.shape, affine), "volume", Path("scan.nii"))


def test_values_become_numbers_of_masks():
    label_map = np.array([[[0, 5, 6, 9]]], np.uint8)
    codes = prepare_masks(label_map, scan_of(label_map), PreprocessConfig(), LABELS)
    assert codes.tolist() == [[[0, 1, 1, 2]]]
    assert codes.dtype == np.uint8


def test_without_background_every_label_has_a_mask():
    labels = LABELS.model_copy(update={"background": False})
    label_map = np.array([[[0, 5, 9]]], np.uint8)
    assert prepare_masks(label_map, scan_of(label_map), PreprocessConfig(), labels).tolist() == [[[1, 2, 3]]]
    assert (mask_count(labels), mask_count(LABELS)) == (3, 2)
    assert (mirrored_masks(labels), mirrored_masks(LABELS)) == ((0, 2, 1), (1, 0))


def test_masks_follow_the_orientation_and_the_spacing_of_the_network():
    label_map = np.array([0, 0, 5, 5, 9, 9], np.uint8).reshape(6, 1, 1)
    scan = scan_of(label_map, np.diag([-1.0, 1, 1, 1]))  # the first axis runs to the left
    assert prepare_masks(label_map, scan, PreprocessConfig(), LABELS).ravel().tolist() == [2, 2, 1, 1, 0, 0]
    coarse = prepare_masks(label_map, scan, PreprocessConfig(spacing=(2.0, 1.0, 1.0)), LABELS)
    assert coarse.ravel().tolist() == [2, 1, 0]


def test_windows_have_the_masks_as_channels():
    image = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    codes = np.array([[0, 1, 2, 0], [0, 0, 1, 1], [2, 2, 0, 0]], np.uint8)
    joined = ImageWithMasks(image, codes, 2)
    assert joined.shape == (3, 3, 4)
    window = joined.window((slice(0, 2), slice(1, 3)))
    assert window.tolist() == [[[1, 2], [5, 6]], [[1, 0], [0, 1]], [[0, 1], [0, 0]]]
    assert np.array_equal(window[1:], one_hot_masks(codes[:2, 1:3], 2))
