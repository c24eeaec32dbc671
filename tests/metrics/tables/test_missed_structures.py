import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medseg.metrics import LesionOptions, MeasureOptions, case_rows, summarize
from medseg.metrics.tables.columns import direction
from medseg.metrics.tables.missed_structures import count_structures, counted_value

SCORES = ("dice", "iou", "precision", "recall", "volume_similarity", "nsd", "boundary_iou")
DISTANCES = ("hd", "hd95", "assd", "masd")
LESIONS = ("lesion_sensitivity", "lesion_precision", "lesion_f1", "lesion_dice")
OPTIONS = MeasureOptions(groups=("overlap", "boundary", "lesions"))
MASKS = arrays(np.uint8, (5, 6), elements=st.integers(0, 1))


def summary_of(reference, predictions):
    diagonal = math.hypot(5 * 1.0, 6 * 2.0)
    rows = [
        case_rows(str(index), reference, prediction, {"x": [1]}, (1.0, 2.0), OPTIONS)[0]
        for index, prediction in enumerate(predictions)
    ]
    return summarize([row | {"diagonal_mm": diagonal} for row in rows])["labels"]["x"]


@settings(max_examples=15, deadline=None)
@given(reference=MASKS, found=MASKS)
def test_a_missed_structure_never_improves_a_mean_or_a_median(reference, found):
    reference[2, 3] = found[0, 0] = 1  # neither is empty
    other, nothing = reference.copy(), np.zeros_like(reference)
    other[0] = 1
    better, worse = summary_of(reference, [other, found]), summary_of(reference, [other, nothing])
    assert (worse["structures"]["missed"], better["structures"]["missed"]) == (1, 0)
    for column in (*SCORES, *DISTANCES, *LESIONS):
        sign = 1 if direction(column) == "higher" else -1
        for statistic in ("mean", "median"):
            one, two = (summary["metrics"][column][statistic] for summary in (better, worse))
            assert sign * two <= sign * one + 1e-9, (column, statistic)
        assert worse["metrics"][column]["n"] == 2


def test_counted_values():
    spurious = {"hd95": math.nan, "recall": math.nan, "tp": 0, "fp": 2, "fn": 0, "diagonal_px": 9.0}
    # a distance that another library leaves undefined counts, recall has no meaning without a reference
    assert counted_value(spurious, "hd95", "worst") == 9.0
    assert math.isnan(counted_value(spurious, "recall", "worst"))
    found = {"hd95": 2.5, "tp": 1, "fp": 0, "fn": 0}
    assert counted_value(found, "hd95", "exclude") == 2.5
    assert math.isnan(counted_value(found, "dice", "worst"))  # the row has no such column


def test_a_size_stratum_without_lesions_is_left_out():
    # 12 and 1 mm² in strata of ≤ 10 and > 10: the only large lesion is found, the only small one is missed
    options = MeasureOptions(groups=("overlap", "lesions"), lesions=LesionOptions(size_edges=(10,)))
    large, small = np.zeros((6, 6), np.uint8), np.zeros((6, 6), np.uint8)
    large[:3, :4] = small[4, 4] = 1
    pairs = {"a": (large, large), "b": (small, np.zeros_like(small))}
    rows = [case_rows(case, *pair, {"x": [1]}, (1, 1), options)[0] for case, pair in pairs.items()]
    metrics = summarize(rows)["labels"]["x"]["metrics"]
    means = {stratum: metrics[f"lesion_sensitivity_{stratum}"] for stratum in (">10", "<=10")}
    assert [(one["mean"], one["n"]) for one in means.values()] == [(1.0, 1), (0.0, 1)]


@pytest.mark.parametrize(("counts", "key"), [((1, 2, 3), None), ((0, 0, 3), "missed"), ((0, 3, 0), "spurious")])
def test_counted_structures(counts, key):
    row = dict(zip(("tp", "fp", "fn"), counts, strict=True))
    counted = count_structures([row])
    assert counted["in_reference"] == int(counts[0] + counts[2] > 0)
    assert [name for name in ("missed", "spurious", "absent") if counted[name]] == ([key] if key else [])
