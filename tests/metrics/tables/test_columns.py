import math

import pytest

from medseg.metrics.tables.columns import (
    direction,
    is_missed,
    is_spurious,
    metric_columns,
    unit_of,
    worst_value,
)


@pytest.mark.parametrize(
    ("column", "better", "unit"),
    [
        ("dice", "higher", "1"),
        ("hd99.5", "lower", "px"),
        ("masd", "lower", "px"),
        ("betti0_error", "lower", "1"),
        ("relative_volume_difference", None, "1"),
        ("reference_volume_mm3", None, "mm3"),
        ("fp_volume", "lower", "mm2"),
        ("lesions_reference", None, "1"),
        ("lesion_f1", "higher", "1"),
        ("fn", None, "voxels"),
        ("somebody's own", None, "1"),
    ],
)
def test_columns_have_a_direction_and_a_unit(column, better, unit):
    assert (direction(column), unit_of(column, "px", "mm2")) == (better, unit)


def test_the_worst_value_of_a_column():
    assert worst_value("hd95", 90.0) == 90.0
    assert worst_value("precision", 90.0) == 0.0
    assert math.isnan(worst_value("reference_volume_mm3", 90.0))
    assert math.isnan(worst_value("lesion_tp", 90.0))


def test_missed_and_spurious():
    missed, spurious, found = {"tp": 0, "fp": 0, "fn": 3}, {"tp": 0, "fp": 3, "fn": 0}, {"tp": 1, "fp": 0}
    left_out = dict.fromkeys(("tp", "fp", "fn"), math.nan)
    assert [is_missed(row) for row in (missed, spurious, found, left_out, {})] == [True] + [False] * 4
    assert [is_spurious(row) for row in (missed, spurious, found, left_out)] == [False, True, False, False]


def test_context_and_counts_are_no_metrics():
    row = {"case": "a", "name": "x", "dice": 1.0, "tp": 1, "spacing_mm": "1x1", "tolerance_mm": 1.0}
    assert metric_columns([row]) == ["dice"]
    assert metric_columns([row], counts=True) == ["dice", "tp"]
