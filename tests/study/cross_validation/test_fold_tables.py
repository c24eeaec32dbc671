import math

import pytest

from medseg.study.cross_validation.ensemble import compare_with_members
from medseg.study.cross_validation.options import FailedFold
from medseg.study.cross_validation.selection.steps import ChosenSetting
from medseg.study.cross_validation.tables import fold_rows, format_markdown, with_folds


def rows(**scores):
    """Rows of ``cases.csv`` of two labels: case → Dice of a and b."""
    return [
        {"case": case, "label": str(value), "name": name, "status": "scored", "dice": dice}
        for case, own in scores.items()
        for value, (name, dice) in enumerate(zip("ab", own, strict=True), start=1)
    ]


SCORES = rows(x=(0.8, 0.6), y=(0.6, 0.4), z=(0.9, math.nan))
FOLDS = {"x": 0, "y": 0, "z": 1}


def test_one_row_per_fold_and_one_for_all_by_hand():
    first, second, every = fold_rows(SCORES, FOLDS)
    # fold 0: a (0.8 + 0.6) / 2, b (0.6 + 0.4) / 2, mean of the labels 0.6
    assert (first["fold"], first["cases"], first["dice"]) == ("0", 2, pytest.approx(0.6))
    assert (first["dice:a"], first["dice:b"]) == pytest.approx((0.7, 0.5))
    assert first["ci_low"] < 0.6 < first["ci_high"]
    assert (second["fold"], second["dice"]) == ("1", pytest.approx(0.9))
    assert math.isnan(second["dice:b"])
    assert math.isnan(second["ci_low"])  # one case has no interval
    assert (every["fold"], every["cases"]) == ("all", 3)
    assert every["dice"] == pytest.approx(((0.8 + 0.6 + 0.9) / 3 + 0.5) / 2)


def test_the_fold_is_the_second_column():
    assert list(with_folds(SCORES, FOLDS)[0])[:2] == ["case", "fold"]
    assert [row["fold"] for row in with_folds(SCORES, FOLDS)] == [0, 0, 0, 0, 1, 1]


def test_an_ensemble_is_compared_with_the_mean_of_its_members_by_hand():
    members = [rows(x=(0.8, 0.6), y=(0.6, 0.4)), rows(x=(0.6, 0.8), y=(0.6, 0.6))]
    scores = compare_with_members(rows(x=(0.9, 0.9), y=(0.7, 0.5)), members)
    assert scores.members == pytest.approx((0.6, 0.65))
    assert scores.mean_of_members == pytest.approx(0.625)
    assert scores.ensemble[0] == pytest.approx(0.75)
    # differences: x 0.9 - 0.7 and 0.9 - 0.7; y 0.7 - 0.6 and 0.5 - 0.5
    assert scores.gain[0] == pytest.approx((0.2 + 0.2 + 0.1 + 0.0) / 4)
    assert scores.gain[1] < 0.125 < scores.gain[2]
    assert (scores.cases, scores.labels) == (2, {"a": pytest.approx(0.8), "b": pytest.approx(0.7)})


def test_correctly_empty_counts_as_one_where_another_member_finds_something():
    nothing, something = rows(x=(0.5, math.nan)), rows(x=(0.5, 0.0))
    assert compare_with_members(nothing, [something]).gain[0] == pytest.approx(0.5)  # a: 0, b: 1 - 0
    assert compare_with_members(nothing, [nothing]).gain[0] == 0.0


def test_the_text_of_all_tables(tmp_path):
    table = fold_rows(SCORES, FOLDS)
    steps = [ChosenSetting("a", "largest", 0.7, 0.75, 0.74), ChosenSetting("b", "none", 0.5, 0.5, 0.5)]
    members = [rows(x=(0.8, 0.6), y=(0.6, 0.4)), rows(x=(0.6, 0.8), y=(0.6, 0.6))]
    test = compare_with_members(rows(x=(0.9, 0.9), y=(0.7, 0.5)), members)
    text = format_markdown(table, steps, test, [FailedFold(1, "out of memory", tmp_path / "output.log")])
    assert "| fold | cases | mean Dice | 95% interval | a | b |" in text
    assert "| 1 | 1 | 0.9000 |  | 0.9000 | nan |" in text
    assert "| a | largest | 0.7000 | 0.7500 | 0.7400 |" in text
    assert "| mean of the folds | 0.6250 |  |" in text
    assert f"* fold 1: out of memory (log: {tmp_path / 'output.log'})" in text


def test_intervals_stay_between_0_and_1():
    row = fold_rows(rows(x=(1.0, 1.0), y=(0.1, 0.1)), {"x": 0, "y": 0})[0]
    assert (row["ci_low"], row["ci_high"]) == (0.0, 1.0)
