"""Aligned scores: what is missing never flatters a method, and is always listed."""

import math

import numpy as np
import pytest

from medseg.errors import ConfigError, DataError
from medseg.evaluation.comparison import ComparisonOptions, MethodScores
from medseg.evaluation.comparison.options import resolve_metric
from medseg.evaluation.comparison.scores import align_scores

NAN, INF = math.nan, math.inf


def method(name, scores, metric="dice", label="organ", **more):
    """Scores of one label from {case: value or row}."""
    rows = [
        {"case": case, "name": label, "status": "scored"} | (one if isinstance(one, dict) else {metric: one})
        for case, one in scores.items()
    ]
    return MethodScores(name, rows, **more)


def values(table, case):
    return table.values[:, table.cases.index(case), 0].tolist()


def test_a_case_without_a_result_counts_as_the_worst_score():
    a, b = method("a", {"1": 0.8, "2": 0.9}), method("b", {"1": 0.7}, reasons={"2": "out of memory"})
    table = align_scores([a, b], ComparisonOptions())
    assert values(table, "2") == [0.9, 0.0]
    assert table.missing == {"a": {}, "b": {"2": "out of memory"}}
    assert table.substituted[1, 1, 0]


def test_a_case_without_a_result_is_left_out_for_both():
    a, b = method("a", {"1": 0.8, "2": 0.9}), method("b", {"1": 0.7})
    table = align_scores([a, b], ComparisonOptions(missing="exclude"))
    assert np.isnan(values(table, "2")).all()
    assert table.excluded == {"2": "a method has no result"}
    assert table.missing["b"] == {"2": "not in its table"}


@pytest.mark.parametrize("status", ["missing", "failed"])
def test_scores_of_cases_that_were_not_scored_do_not_count(status):
    # medseg evaluate --missing worst writes 0; another tool may write anything
    b = method("b", {"1": 0.7, "2": {"status": status, "dice": 1.0}})
    table = align_scores([method("a", {"1": 0.8, "2": 0.9}), b], ComparisonOptions())
    assert values(table, "2") == [0.9, 0.0]


def test_a_correctly_empty_prediction_is_the_best_score():
    empty = {"dice": NAN, "tp": 0, "fp": 0, "fn": 0}
    false_positive = {"dice": 0.0, "tp": 0, "fp": 9, "fn": 0}
    a = method("a", {"1": 0.5, "2": empty, "3": empty})
    b = method("b", {"1": 0.5, "2": false_positive, "3": empty})
    table = align_scores([a, b], ComparisonOptions())
    assert values(table, "2") == [1.0, 0.0]
    assert np.isnan(values(table, "3")).all()
    assert table.excluded == {"3 / organ": "neither the reference nor any prediction has the label"}


def test_an_undefined_precision_of_a_missed_structure_is_the_worst_score():
    missed = {"precision": NAN, "tp": 0, "fp": 0, "fn": 50}
    a, b = method("a", {"1": missed}, "precision"), method("b", {"1": 0.5}, "precision")
    assert values(align_scores([a, b], ComparisonOptions(metric="precision")), "1") == [0.0, 0.5]


def test_an_empty_cell_of_another_table_is_a_missing_result():
    a = MethodScores("a", [{"case": "1", "name": "x", "dice": NAN}])
    b = MethodScores("b", [{"case": "1", "name": "x", "dice": 0.5}])
    assert values(align_scores([a, b], ComparisonOptions()), "1") == [0.0, 0.5]


def test_infinite_distances_count_as_the_diagonal_else_as_the_largest():
    scores = {"1": {"hd95": 2.0, "diagonal_mm": 90.0}, "2": {"hd95": INF, "diagonal_mm": 80.0}}
    a, b = method("a", scores), method("b", {"1": 3.0}, "hd95")
    table = align_scores([a, b], ComparisonOptions(metric="hd95"))
    assert values(table, "2") == [80.0, 80.0]
    a, b = method("a", {"1": 2.0, "2": INF}, "hd95"), method("b", {"1": 3.0, "2": 4.0}, "hd95")
    table = align_scores([a, b], ComparisonOptions(metric="hd95"))
    assert values(table, "2") == [4.0, 4.0]
    assert "lenient" in table.notes[0]
    table = align_scores([a, b], ComparisonOptions(metric="hd95", penalty=50))
    assert values(table, "2") == [50.0, 4.0]
    with pytest.raises(ConfigError, match="HD95 of 4, beside which a missed structure would"):
        align_scores([a, b], ComparisonOptions(metric="hd95", penalty=3))


def test_signed_volumes_are_compared_by_size():
    a = method("a", {"1": -0.3}, "relative_volume_difference")
    b = method("b", {"1": 0.2}, "relative_volume_difference")
    table = align_scores([a, b], ComparisonOptions(metric="relative_volume_difference"))
    assert values(table, "1") == [0.3, 0.2]


def test_other_labels_are_noted():
    row = {"dice": 0.5, "reference_volume_mm3": 10.0, "predicted_volume_mm3": 10.0}
    b = method("b", {"1": row})
    b = MethodScores("b", [*b.rows, {"case": "1", "name": "vessel", "status": "scored", "dice": 1.0}])
    assert "vessel" in " ".join(align_scores([method("a", {"1": row}), b], ComparisonOptions()).notes)


def test_a_method_that_was_scored_against_other_references_does_not_win():
    row = {"dice": 0.5, "reference_volume_mm3": 10.0, "predicted_volume_mm3": 10.0}
    itself = method("b", {"1": row | {"dice": 1.0, "reference_volume_mm3": 11.0}})
    with pytest.raises(
        DataError,
        match=r"different references: 1 of their sizes or numbers of objects differ .*10 for a, 11 for b",
    ):
        align_scores([method("a", {"1": row}), itself], ComparisonOptions())


def test_percentages_do_not_win_against_fractions():
    with pytest.raises(DataError, match="b, case 1, label organ: Dice is 88, expected a value from 0 to 1"):
        align_scores([method("a", {"1": 0.9}), method("b", {"1": 88.0})], ComparisonOptions())
    with pytest.raises(DataError, match="HD95 is -1, expected a value of at least 0"):
        align_scores(
            [method("a", {"1": 2.0}, "hd95"), method("b", {"1": -1.0}, "hd95")],
            ComparisonOptions(metric="hd95"),
        )
    assert resolve_metric("mcc").limits == (-1, 1)
    assert resolve_metric("ece").limits == (0, 1)
    assert resolve_metric("rvd").limits == (-INF, INF)


def test_a_known_metric_keeps_its_direction():
    with pytest.raises(ConfigError, match="--better lower: higher values of Dice are better"):
        resolve_metric("dice", "lower")
    assert resolve_metric("dice", "higher") == resolve_metric("dice")


def test_a_missing_score_is_not_called_infinite():
    a, b = method("a", {"1": 3.0, "2": 5.0}, "score"), method("b", {"1": 4.0}, "score")
    table = align_scores([a, b], ComparisonOptions(metric="score", better="higher"))
    assert values(table, "2") == [5.0, 3.0]
    assert table.notes[-1].startswith("1 missing score value counts as the smallest finite value of the label")


def test_other_definitions_are_an_error():
    a = method("a", {"1": 2.0}, "hd95", definitions={"unit": "mm", "surface": "voxel"})
    b = method("b", {"1": 2.0}, "hd95", definitions={"unit": "mm", "surface": "surfel"})
    with pytest.raises(DataError, match="surface is a: voxel, b: surfel"):
        align_scores([a, b], ComparisonOptions(metric="hd95"))


def test_only_cases_that_all_runs_were_to_segment_are_compared():
    a = method("a", {"1": 0.5, "2": 0.6}, requested=frozenset("12"))
    b = method("b", {"2": 0.6, "3": 0.6}, requested=frozenset("23"))
    table = align_scores([a, b], ComparisonOptions())
    assert table.cases == ("2",)
    assert set(table.excluded) == {"1", "3"}


def test_nothing_in_common_is_an_error():
    with pytest.raises(DataError, match="no label in common"):
        align_scores([method("a", {"1": 1.0}), method("b", {"1": 1.0}, label="x")], ComparisonOptions())
    with pytest.raises(DataError, match="no column 'nsd'"):
        align_scores([method("a", {"1": 1.0}), method("b", {"1": 1.0})], ComparisonOptions(metric="nsd"))
    exclude = ComparisonOptions(missing="exclude")
    with pytest.raises(DataError, match="no case has a Dice"):
        align_scores([method("a", {"1": 1.0}), method("b", {"2": 1.0})], exclude)


def test_the_direction_of_metrics():
    for name in ("dice", "iou", "nsd", "lesion_f1", "lesion_sensitivity_any", "kappa", "f_beta"):
        assert resolve_metric(name).better == "higher"
    for name in ("hd95_mm", "assd", "ece", "betti0_error", "lesion_fp_any", "fn_volume", "brats_hd95"):
        assert resolve_metric(name).better == "lower"
    with pytest.raises(ConfigError, match="higher or lower"):
        resolve_metric("quality")
    assert resolve_metric("quality", "higher").worst == -INF


def test_an_empty_cell_of_a_failed_case_is_a_missing_result_even_beside_empty_counts():
    empty = {"dice": NAN, "tp": NAN, "fp": NAN, "fn": NAN}
    a = MethodScores("a", [{"case": "1", "name": "x", **empty}])
    b = MethodScores("b", [{"case": "1", "name": "x", "dice": 0.5, "tp": 1, "fp": 1, "fn": 1}])
    assert values(align_scores([a, b], ComparisonOptions()), "1") == [0.0, 0.5]


def test_an_undefined_distance_of_a_spurious_structure_is_the_diagonal():
    spurious = {"hd95": NAN, "tp": 0, "fp": 9, "fn": 0, "diagonal_mm": 100.0}
    absent = spurious | {"fp": 0}
    a, b = method("a", {"1": 3.0, "2": spurious}, "hd95"), method("b", {"1": 4.0, "2": absent}, "hd95")
    table = align_scores([a, b], ComparisonOptions(metric="hd95"))
    assert values(table, "2") == [100.0, 0.0]


def test_a_sensitivity_of_lesions_of_a_size_that_is_absent_is_left_out():
    name = "lesion_sensitivity_>10"
    small = {name: NAN, "tp": 0, "fp": 0, "fn": 5}  # a small lesion, missed
    scores = [method(m, {"1": {name: 1.0, "tp": 9, "fp": 0, "fn": 0}, "2": small}) for m in "ab"]
    table = align_scores(scores, ComparisonOptions(metric=name))
    assert values(table, "1") == [1.0, 1.0]
    assert np.isnan(values(table, "2")).all()


@pytest.mark.parametrize(
    ("metric", "scores", "worst"),
    [("brats_hd95", [370.0, 2.0], 374.0), ("relative_volume_difference", [0.05, 0.02], 1.0),
     ("relative_volume_difference", [-3.0, 0.02], 3.0), ("fp_volume", [0.0, 0.0], 1.0),
     ("fp_volume", [40.0, 0.0], 40.0)],
)  # fmt: skip
def test_a_missing_result_is_not_better_than_an_empty_one(metric, scores, worst):
    cases = {str(i): {metric: one, "diagonal_mm": 100.0} for i, one in enumerate(scores)}
    a, b = method("a", cases), method("b", {"0": cases["0"]})
    table = align_scores([a, b], ComparisonOptions(metric=metric))
    assert values(table, "1") == [scores[1], worst]


@pytest.mark.parametrize(
    ("metric", "first", "second", "message"),
    [
        ("dice", {"like": None}, {"like": "medpy"}, "like is a: None, b: medpy"),
        (
            "lesion_f1",
            {"lesions": {"min_iou": 0.1}},
            {"lesions": {"min_iou": 0.5}},
            "min_iou is a: 0.1",
        ),
        ("brats_dice", {"lesions": {"brats": "GLI"}}, {"lesions": {"brats": "PED"}}, "brats is a: GLI"),
        ("f_beta", {"f_beta": 1.0}, {"f_beta": 2.0}, "f_beta is a: 1.0, b: 2.0"),
    ],
)
def test_definitions_that_matter_to_a_metric_must_agree(metric, first, second, message):
    a, b = (method(n, {"1": 0.5}, metric, definitions=d) for n, d in (("a", first), ("b", second)))
    with pytest.raises(DataError, match=message):
        align_scores([a, b], ComparisonOptions(metric=metric))


def test_definitions_that_do_not_matter_to_a_metric_may_differ():
    others = ({"lesions": {"min_iou": 0.1}, "f_beta": 1.0}, {"lesions": {"min_iou": 0.5}, "f_beta": 2.0})
    for metric in ("dice", "lesion_f1_any"):
        a, b = (method(n, {"1": 0.5}, metric, definitions=d) for n, d in zip("ab", others, strict=True))
        assert align_scores([a, b], ComparisonOptions(metric=metric)).cases == ("1",)


def test_distances_in_other_units_are_an_error():
    a, b = method("a", {"1": 12.5}, "hd95_mm"), method("b", {"1": 6.5}, "hd95_px")
    with pytest.raises(DataError, match=r"different units \(a: mm, b: px\)"):
        align_scores([a, b], ComparisonOptions(metric="hd95"))
    plain = method("b", {"1": 6.5}, "hd95")
    assert align_scores([a, plain], ComparisonOptions(metric="hd95")).unit == "mm"


def test_a_label_may_not_have_the_name_of_the_mean():
    scores = [
        MethodScores(m, [{"case": "1", "name": label, "dice": 0.5} for label in ("organ", "overall")])
        for m in "ab"
    ]
    with pytest.raises(DataError, match="a label is named 'overall'"):
        align_scores(scores, ComparisonOptions())
    only = [method(m, {"1": 0.5}, label="overall") for m in "ab"]
    assert align_scores(only, ComparisonOptions()).labels == ("overall",)
