import math

import numpy as np
import pytest

from medseg.metrics import (
    ScoreOptions,
    dataset_scores,
    summarize,
    to_json,
)
from medseg.metrics.tables.columns import DISTANCES


def row(case, name, *, tp=0, fp=0, fn=0, distance=1.0, dice=0.5, iou=0.4):
    return {
        "case": case,
        "label": "1",
        "name": name,
        "dice": dice,
        "iou": iou,
        **dict.fromkeys(DISTANCES, distance),
        "tp": tp,
        "fp": fp,
        "fn": fn,
        "tn": 100,
    }


ROWS = [
    row("c1", "liver", tp=8, fp=1, fn=1, distance=2.0, dice=0.8, iou=0.8),
    row("c2", "liver", tp=2, fp=3, fn=5, distance=4.0, dice=0.4, iou=0.2),
    row("c1", "spleen", tp=4, fp=0, fn=0, distance=0.0, dice=1.0, iou=1.0),
    row("c2", "spleen", tp=0, fp=0, fn=6, distance=math.inf, dice=0.0, iou=0.0),
    row("c1", "absent", distance=math.nan, dice=math.nan, iou=math.nan),
    row("c2", "absent", distance=math.nan, dice=math.nan, iou=math.nan),
]


def test_summary_by_hand():
    summary = summarize(ROWS)
    assert summary["n_cases"] == 2
    liver, spleen = summary["labels"]["liver"], summary["labels"]["spleen"]
    assert liver["metrics"]["dice"]["mean"] == pytest.approx(0.6)
    assert liver["metrics"]["hd95"]["mean"] == pytest.approx(3.0)
    assert liver["dataset"]["iou"] == pytest.approx(10 / 20)  # tp 8 + 2, fp 1 + 3, fn 1 + 5
    assert liver["dataset"]["dice"] == pytest.approx(20 / 30)
    assert spleen["dataset"]["iou"] == pytest.approx(4 / 10)
    overall = summary["overall"]
    assert overall["mean_dice"]["mean"] == pytest.approx((0.6 + 0.5) / 2)  # the absent label is left out
    assert overall["mean_dice"]["n_labels"] == 2
    assert overall["miou_dataset"] == pytest.approx((0.5 + 0.4) / 2)
    assert overall["miou_per_case"] == pytest.approx((0.9 + 0.1) / 2)  # (0.8 + 1) / 2 and (0.2 + 0) / 2


def test_a_missed_structure_never_improves_a_mean():
    found = summarize([ROWS[0], row("c2", "liver", distance=900.0, dice=0.01)])
    missed_rows = [ROWS[0], row("c2", "liver", fn=9, distance=math.inf, dice=0.0)]
    missed = summarize([one | {"diagonal_mm": 1000.0} for one in missed_rows])
    unknown_size = summarize(missed_rows)
    for metric in DISTANCES:
        worse, better = (summary["labels"]["liver"]["metrics"][metric] for summary in (missed, found))
        assert worse["mean"] == worse["median"] == (2 + 1000) / 2 > better["mean"]
        assert (worse["n"], worse["n_inf"], worse["mean_finite"], worse["max"]) == (2, 1, 2.0, 1000.0)
        assert unknown_size["labels"]["liver"]["metrics"][metric]["mean"] == math.inf
    assert missed["overall"]["mean_dice"]["mean"] < found["overall"]["mean_dice"]["mean"]


def test_excluded_misses_are_counted():
    rows = [one | {"diagonal_mm": 1000.0} for one in ROWS]
    summary = summarize(rows, misses="exclude")
    spleen = summary["labels"]["spleen"]
    assert (spleen["metrics"]["hd95"]["mean"], spleen["metrics"]["hd95"]["n"]) == (0.0, 1)
    assert (spleen["metrics"]["hd95"]["n_inf"], spleen["metrics"]["hd95"]["n_nan"]) == (1, 0)
    assert spleen["metrics"]["dice"]["mean"] == 0.5  # the missed spleen's Dice of 0 stays
    assert "left out" in summary["definitions"]["misses_rule"]
    absent = summary["labels"]["absent"]["metrics"]["hd95"]
    assert (absent["n"], absent["n_nan"], absent["n_inf"]) == (0, 2, 0)


def test_the_precision_of_a_missed_structure_counts_as_zero():
    found = row("c1", "liver", tp=9, fp=1) | {"precision": 0.9}
    missed = row("c2", "liver", fn=9, distance=math.inf) | {"precision": math.nan}
    metrics = {
        policy: summarize([found, missed], misses=policy)["labels"]["liver"]["metrics"]["precision"]
        for policy in ("worst", "exclude")
    }
    assert (metrics["worst"]["mean"], metrics["worst"]["n"]) == (0.45, 2)
    assert (metrics["exclude"]["mean"], metrics["exclude"]["n"], metrics["exclude"]["n_nan"]) == (0.9, 1, 1)


def test_structures_are_counted():
    spurious = row("c3", "spleen", fp=4, distance=math.inf, dice=0.0, iou=0.0)
    nothing = row("c4", "spleen", distance=math.nan, dice=math.nan, iou=math.nan)
    summary = summarize([*ROWS, spurious, nothing])
    expected = {"in_reference": 2, "missed": 1, "spurious": 1, "absent": 1}
    assert summary["labels"]["spleen"]["structures"] == expected
    assert summary["overall"]["structures"] == {"in_reference": 4, "missed": 1, "spurious": 1, "absent": 3}


def test_the_interval_of_the_mean_dice():
    # two cases, (0.8 + 1) / 2 = 0.9 and (0.4 + 0) / 2 = 0.2: Student's t is 0.55 ± 12.7 · 0.35, beyond 0 and 1
    overall = summarize(ROWS)["overall"]["mean_dice"]
    assert (overall["ci_low"], overall["ci_high"]) == (0.0, 1.0)
    assert (overall["n"], overall["n_labels"]) == (2, 2)
    assert to_json(summarize(ROWS, seed=1)) == to_json(summarize(ROWS, seed=1))


def test_a_summary_defines_its_numbers():
    definitions = summarize(ROWS, ScoreOptions({"liver": 2.0}, "voxel"), seed=7)["definitions"]
    assert definitions["surface"] == "voxel"
    assert definitions["tolerance_mm"] == {"liver": 2.0}
    assert "linear interpolation" in definitions["hd95"]
    assert "cumulated surfel weight" in summarize(ROWS)["definitions"]["hd95"]
    assert definitions["bootstrap"]["seed"] == 7
    assert definitions["bootstrap"]["resamples"] == 5000
    assert "mm" in definitions["spacing_units"]


def test_the_definitions_are_those_of_the_reproduced_library():
    own, nnunet, monai = (
        summarize(ROWS, ScoreOptions(like=like))["definitions"] for like in (None, "nnunet", "monai")
    )
    assert "both directions together" in nnunet["hd95"]
    assert "both directions together" in nnunet["metrics"]["hd95"]
    assert "mean of the fractions" in nnunet["nsd"]
    assert "one empty: distances nan" in nnunet["empty"]
    assert monai["hd95"].startswith("larger of the two directed")
    assert "dice and iou 1" in monai["empty"]
    assert "distances inf" in own["empty"]


def test_the_scores_of_the_data_set_come_along():
    scores = dataset_scores(np.array([[3, 1], [0, 4]]), ["background", "liver"])
    assert summarize(ROWS, dataset=scores)["dataset"]["pixel_accuracy"] == pytest.approx(7 / 8)
    assert "dataset" not in summarize(ROWS)


def test_no_rows():
    summary = summarize([])
    assert (summary["n_cases"], summary["labels"]) == (0, {})
    assert math.isnan(summary["overall"]["mean_dice"]["mean"])


def test_two_rows_for_one_case_and_label():
    with pytest.raises(ValueError, match="case c1 has two rows for label 'liver'"):
        summarize([ROWS[0], ROWS[0]])
