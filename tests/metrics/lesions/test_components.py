import numpy as np
import pytest

from medseg.metrics.lesions import components
from medseg.metrics.lesions.components import instance_overlaps, number_instances

ONE = np.array([[1, 1, 1, 0, 2, 2]])
TWO = np.array([[2, 2, 0, 1, 1, 1]])


@pytest.mark.parametrize("largest", [0, 2**22])
def test_overlaps_by_hand(largest, monkeypatch):
    monkeypatch.setattr(components, "_LARGEST_TABLE", largest)
    overlaps = instance_overlaps(ONE, TWO)
    pairs = zip(overlaps.rows.tolist(), overlaps.columns.tolist(), overlaps.shared.tolist(), strict=True)
    assert sorted(pairs) == [(0, 1, 2), (1, 0, 2)]
    assert sorted(overlaps.ious.tolist()) == pytest.approx([2 / 3, 2 / 3])
    assert overlaps.reference_sizes.tolist() == [3, 2]
    assert overlaps.prediction_sizes.tolist() == [3, 2]
    assert overlaps.best_dice().tolist() == pytest.approx([4 / 5, 4 / 5])


def test_the_matching_has_the_largest_sum():
    # IoUs: 1 and A 3/6, 1 and B 3/10, 2 and B 4/7
    one = np.array([[1] * 6 + [2] * 4])
    two = np.array([[1] * 3 + [2] * 7])
    overlaps = instance_overlaps(one, two)
    matched = overlaps.matched(0.1)
    assert len(matched) == 2
    assert overlaps.ious[matched].sum() == pytest.approx(3 / 6 + 4 / 7)


def test_ids_are_renumbered():
    assert number_instances(np.array([[300, 0], [-2, 7]])).tolist() == [[3, 0], [1, 2]]
