import numpy as np

from medseg.instances.panoptic import PanopticOptions, merge_panoptic
from medseg.instances.result import Instances


def test_things_cover_each_other_by_score_and_stuff_gets_the_rest():
    masks = np.zeros((3, 1, 8), bool)
    masks[0, 0, :4] = masks[1, 0, 2:6] = masks[2, 0, 3:5] = True
    things = Instances.from_masks(masks, np.array([1, 1, 2]), np.array([0.9, 0.8, 0.7]))
    stuff = np.array([[4, 4, 4, 4, 4, 4, 4, 3]])
    merged = merge_panoptic(things, stuff, (3, 4), PanopticOptions(smallest=1))
    # the second thing keeps half of its pixels; the third is covered entirely
    assert merged.segments.tolist() == [[1, 1, 1, 1, 2, 2, 4, 3]]
    assert merged.classes.tolist() == [1, 1, 3, 4]
    assert merged.things.tolist() == [True, True, False, False]
    assert merged.scores.tolist() == [0.9, 0.8, 1, 1]


def test_weak_things_and_small_stuff_are_left_out():
    things = Instances.from_label_map(np.array([[1, 1, 0, 0, 0]]), scores=np.array([0.4]))
    merged = merge_panoptic(things, np.array([[0, 0, 4, 5, 5]]), (4, 5), PanopticOptions(score=0.5, smallest=2))
    assert merged.segments.tolist() == [[0, 0, 0, 1, 1]]
    assert len(merged) == 1
