"""Non-maximum suppression equals the greedy algorithm."""

import pytest
import torch

from medseg.models.detection import nms as module
from medseg.models.detection.boxes import box_iou
from medseg.models.detection.nms import nms


def random_boxes(count, dims, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lower = torch.rand(count, dims, generator=generator) * (30 if dims == 2 else 10)
    boxes = torch.cat([lower, lower + 3 + torch.rand(count, dims, generator=generator) * 9], dim=1)
    scores = (torch.rand(count, generator=generator) * 20).round() / 20  # many ties
    return boxes, scores


def greedy(boxes, scores, threshold, groups):
    """The definition, one box at a time."""
    kept = []
    for index in scores.argsort(descending=True, stable=True).tolist():
        rivals = [k for k in kept if groups[k] == groups[index]]
        if not any(box_iou(boxes[k][None], boxes[index][None]).item() > threshold for k in rivals):
            kept.append(index)
    return kept


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("block", [1, 7, 256])
def test_it_equals_the_definition(dims, block, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", block)
    boxes, scores = random_boxes(60, dims)
    groups = torch.arange(60) % 3
    expected = greedy(boxes, scores, 0.2, groups)
    assert 3 < len(expected) < 55
    assert nms(boxes, scores, 0.2, groups=groups).tolist() == expected
    assert nms(boxes, scores, 0.2, groups=groups, limit=4).tolist() == expected[:4]
    assert nms(boxes, scores, 0.2).tolist() == greedy(boxes, scores, 0.2, [0] * 60)


def test_a_suppressed_box_suppresses_nothing():
    # the second overlaps both others by 1/2, which do not overlap each other
    boxes = torch.tensor([[0.0, 0, 1, 4], [0, 2, 1, 6], [0, 4, 1, 8]])
    assert nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.3).tolist() == [0, 2]
    assert nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.34).tolist() == [0, 1, 2]  # IoU 1/3 is not above


def test_no_boxes():
    assert nms(torch.zeros(0, 4), torch.zeros(0), 0.5).tolist() == []
