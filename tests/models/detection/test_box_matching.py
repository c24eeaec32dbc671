"""Matching of candidates to objects, and sampling."""

import torch

from medseg.models.detection.matching import (
    BACKGROUND,
    BETWEEN,
    match_adaptively,
    match_by_iou,
    sample_balanced,
    sample_hard,
)


def test_matches_by_two_thresholds():
    iou = torch.tensor([[0.8, 0.4, 0.1, 0.6], [0.0, 0.0, 0.2, 0.65]])
    assert match_by_iou(iou, 0.7, 0.3).tolist() == [0, BETWEEN, BACKGROUND, BETWEEN]
    # the best candidate of the second object is kept
    assert match_by_iou(iou, 0.7, 0.3, keep_best=True).tolist() == [0, BETWEEN, BACKGROUND, 1]


def test_an_object_without_overlap_keeps_nothing():
    assert match_by_iou(torch.zeros(1, 3), 0.7, 0.3, keep_best=True).tolist() == [BACKGROUND] * 3


def test_without_objects_all_is_background():
    assert match_by_iou(torch.zeros(0, 2), 0.7, 0.3).tolist() == [BACKGROUND] * 2
    none = torch.zeros(0, 2)
    assert match_adaptively(none, none, none.bool(), [2]).tolist() == [BACKGROUND] * 2


def test_adaptive_threshold_is_mean_plus_deviation():
    # candidates 0.2, 0.4, 0.9: mean 0.5, deviation 0.36: only the last one
    iou = torch.tensor([[0.2, 0.4, 0.9, 0.95]])
    distances = torch.tensor([[0.0, 1, 2, 9]])
    inside = torch.ones(1, 4, dtype=torch.bool)
    assert match_adaptively(iou, distances, inside, [4], 3).tolist() == [-1, -1, 0, -1]


def test_sampling_fills_up_with_background():
    torch.manual_seed(0)
    matches = torch.tensor([0, 1, 2, BETWEEN] + [BACKGROUND] * 20)
    sample = sample_balanced(matches, 8, 0.25)
    assert len(sample.positive) == 2
    assert len(sample.negative) == 6
    assert (matches[sample.positive] >= 0).all()
    assert (matches[sample.negative] == BACKGROUND).all()
    assert sample.all.tolist() == sample.positive.tolist() + sample.negative.tolist()


def test_hard_background_has_the_highest_scores():
    torch.manual_seed(0)
    matches = torch.full((1000,), BACKGROUND)
    matches[0] = 0
    sample = sample_hard(matches, torch.arange(1000.0), 4, 0.33)
    assert sample.positive.tolist() == [0]
    assert len(sample.negative) == 3
    assert (sample.negative >= 1000 - 60).all()
