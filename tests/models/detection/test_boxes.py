"""Boxes: overlaps, clipping and coding, with hand-computed values."""

import math

import pytest
import torch

from medseg.models.detection.boxes import (
    BoxCoder,
    box_iou,
    clip_boxes,
    covered_share,
    generalized_iou,
    has_sides,
    paired_generalized_iou,
    volumes,
)


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float32)


def test_iou_in_2d_and_3d():
    # areas 8 and 8, shared 2 x 1 = 2: 2 / 14
    assert box_iou(boxes([0, 0, 2, 4]), boxes([0, 3, 2, 7])).item() == pytest.approx(1 / 7)
    # volumes 8 and 8, shared 1: 1 / 15
    assert box_iou(boxes([0, 0, 0, 2, 2, 2]), boxes([1, 1, 1, 3, 3, 3])).item() == pytest.approx(1 / 15)
    assert box_iou(boxes([0, 0, 1, 1]), boxes([1, 0, 2, 1])).item() == 0
    assert box_iou(boxes([1, 1, 1, 1]), boxes([1, 1, 1, 1])).item() == 0  # no volume: not nan


def test_generalized_iou_is_negative_for_distant_boxes():
    # IoU 0; the enclosing box has 4, of which 2 belong to neither
    first, second = boxes([0, 0, 1, 1]), boxes([0, 3, 1, 4])
    assert generalized_iou(first, second).item() == pytest.approx(-0.5)
    assert paired_generalized_iou(first, second).item() == pytest.approx(-0.5)
    assert generalized_iou(first, first).item() == pytest.approx(1)


def test_volumes_clipping_and_sides():
    one = boxes([-1, 2, 5, 9])
    assert volumes(one).item() == 42
    assert clip_boxes(one, (4, 8)).tolist() == [[0, 2, 4, 8]]
    assert has_sides(boxes([0, 0, 2, 0.5], [0, 0, 2, 1]), 1).tolist() == [False, True]
    assert covered_share(boxes([0, 0, 2, 2]), boxes([0, 0, 1, 9])).item() == 0.5


def test_codes_of_a_box():
    # center moves by (1, 0) of sides (4, 4): shift 0.25; sides 8 and 4: log 2 and 0
    anchor, box = boxes([0, 0, 4, 4]), boxes([-1, 0, 7, 4])
    codes = BoxCoder(10, 5).encode(box, anchor)
    assert codes.tolist()[0] == pytest.approx([2.5, 0, 5 * math.log(2), 0])
    torch.testing.assert_close(BoxCoder(10, 5).decode(codes, anchor), box)


def test_large_codes_do_not_overflow():
    decoded = BoxCoder().decode(boxes([0, 0, 1e4, 1e4]), boxes([0, 0, 1, 1]))
    assert decoded[0, 2].item() == pytest.approx(0.5 + 1000 / 16 / 2)


def test_coding_in_3d_is_the_inverse_of_decoding():
    generator = torch.Generator().manual_seed(0)
    lower = torch.rand(20, 3, generator=generator) * 30
    some = torch.cat([lower, lower + 1 + torch.rand(20, 3, generator=generator) * 9], dim=1)
    coder = BoxCoder(10, 5)
    torch.testing.assert_close(coder.decode(coder.encode(some, some.flip(0)), some.flip(0)), some)
