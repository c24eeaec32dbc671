"""Comparisons of methods: pairs, rankings, subgroups, the ceiling and the verdict."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from medseg.errors import ConfigError, DataError
from medseg.evaluation.comparison import ComparisonOptions, MethodScores, compare_scores
from medseg.evaluation.comparison.method_pair import adjust, compare_pair
from medseg.evaluation.comparison.rankings import rank_methods
from medseg.evaluation.comparison.scores import align_scores
from medseg.metrics.tables.statistics import label_mean_influence

NAN = math.nan


def method(name, values, labels=("organ",), metric="dice", **more):
    """Scores (C, L)."""
    values = np.asarray(values, float).reshape(-1, len(labels))
    rows = [
        {"case": f"c{c:02}", "name": label, "status": "scored", metric: float(values[c, k])}
        for c in range(len(values))
        for k, label in enumerate(labels)
        if not math.isnan(values[c, k])
    ]
    return MethodScores(name, rows, **more)


def noisy(seed, shift, cases=30, labels=2):
    base = 0.8 * np.random.default_rng(0).beta(12, 3, (cases, labels))
    return base + shift + np.random.default_rng(seed).normal(0, 0.02, base.shape)


def two(shift=0.03, **options):
    names = ("organ", "lesion")
    methods = [method("old", noisy(1, 0), names), method("new", noisy(2, shift), names)]
    return compare_scores(methods, ComparisonOptions(resamples=100, **options))


def test_a_pair_by_hand():
    # differences 0.1 0.2 0.3 -0.1 0 0.1: mean 0.1, median 0.1, 4 wins, 1 loss, 1 tie
    old = [0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    new = [0.6, 0.7, 0.8, 0.4, 0.5, 0.6]
    (pair,) = compare_scores([method("old", old), method("new", new)]).pairs
    assert (pair.method, pair.baseline, pair.label, pair.n) == ("new", "old", "organ", 6)
    assert (pair.difference, pair.median) == pytest.approx((0.1, 0.1))
    assert (pair.mean_method, pair.mean_baseline) == pytest.approx((0.6, 0.5))
    assert (pair.wins, pair.losses, pair.ties) == (4, 1, 1)
    # |d| ranks without the zero: 0.1 0.1 0.1 → 2, 0.2 → 4, 0.3 → 5; W- = 2, W+ = 13
    assert pair.rank_biserial == pytest.approx(11 / 15)
    assert pair.cohen_dz == pytest.approx(0.1 / math.sqrt(0.1 / 5))
    assert pair.improvement == pytest.approx(4.5 / 6)
    # sums of the signed 1 2 3 1 1 (in tenths) that reach 6: 8 (1 way), 6 (3 ways); both signs: 8 of 32
    assert pair.p_permutation == pytest.approx(8 / 32)
    assert pair.ci_low < 0.1 < pair.ci_high
    assert pair.decision == "undecided"


def test_lower_is_better_for_distances():
    near, far = [1.0, 1.2, 1.4, 1.1, 1.0, 1.3, 1.2, 1.5], [2.0, 2.4, 2.2, 2.1, 2.3, 2.0, 2.6, 2.2]
    methods = [method("far", far, metric="hd95"), method("near", near, metric="hd95")]
    (pair,) = compare_scores(methods, ComparisonOptions(metric="hd95")).pairs
    assert pair.difference < 0
    assert (pair.decision, pair.wins) == ("better", 8)
    assert pair.rank_biserial == 1
    assert pair.cohen_dz > 0


def test_overall_is_the_mean_of_the_means_of_labels():
    # organ: 0.1 and 0.3 → 0.2; lesion: 0.5 in one case only → mean of 0.2 and 0.5
    influence = label_mean_influence(np.array([[0.1, NAN], [0.3, 0.5], [NAN, NAN]]))
    assert len(influence) == 2
    assert influence.mean() == pytest.approx(0.35)
    assert label_mean_influence(np.full((2, 2), NAN)).size == 0


def test_the_verdict_says_which_is_better_by_how_much_and_how_sure():
    comparison = two()
    first = comparison.verdict[0]
    pair = comparison.primary[0]
    assert first.startswith("new is better than old: Dice ")
    interval = f"95% interval {pair.ci_low:+.3f} to {pair.ci_high:+.3f}"
    assert f"{pair.difference:+.3f} ({interval}; p < 0.001)" in first
    assert "mean over 2 labels, 30 cases" in first
    assert any("By label, new is better on" in line for line in comparison.verdict)
    lowest = min(
        (value, f"{case} {label}")
        for k, label in enumerate(comparison.labels)
        for case, value in zip(comparison.table.cases, comparison.table.values[1, :, k], strict=True)
    )
    assert any(f"new is worst on {lowest[1]} ({lowest[0]:.3f})" in line for line in comparison.verdict)


def test_the_probability_on_a_new_case_needs_three_cases():
    for count, stated in ((2, False), (3, True)):
        scores = [0.5, 0.6, 0.7][:count]
        compared = compare_scores(
            [method("old", scores), method("new", scores)], ComparisonOptions(resamples=5)
        )
        assert any("on a new case" in line for line in compared.verdict) is stated


def test_no_difference_is_not_called_equality():
    verdict = two(0.0).verdict
    assert verdict[0].startswith("No difference between new and old is shown")
    assert any("does not show that they are equal" in line for line in verdict)


def test_missing_results_are_in_the_verdict_and_shown_without_them():
    new = noisy(2, 0.03)
    new[4] = NAN
    names = ("organ", "lesion")
    methods = [method("old", noisy(1, 0), names), method("new", new, names, reasons={"c04": "out of memory"})]
    comparison = compare_scores(methods, ComparisonOptions(resamples=50))
    assert comparison.primary[0].decision == "undecided"
    (complete,) = comparison.complete_cases
    assert (complete.n, complete.decision) == (29, "better")
    text = "\n".join(comparison.verdict)
    assert "new has no result for 1 of 30 cases, counted as the worst score: c04 (out of memory)." in text
    assert "On the 29 cases that both have results for, new is better" in text
    excluded = compare_scores(methods, ComparisonOptions(resamples=50, missing="exclude"))
    assert "left out for every method: c04 (out of memory)" in "\n".join(excluded.verdict)


def test_p_values_are_adjusted_over_labels_and_pairs():
    names = tuple("abcde")
    table = align_scores(
        [method("x", noisy(1, 0, labels=5), names), method("y", noisy(2, 0.005, labels=5), names)],
        ComparisonOptions(),
    )
    overall, *labels = adjust(compare_pair(table, "y", "x", ComparisonOptions()), 0.05)
    assert overall.p_permutation_holm == overall.p_permutation
    smallest = min(labels, key=lambda one: one.p_permutation)
    assert smallest.p_permutation_holm == pytest.approx(min(1, 5 * smallest.p_permutation))


def test_noninferiority():
    assert two(-0.005, margin=0.03).primary[0].noninferiority.verdict == "non-inferior"
    assert two(-0.08, margin=0.03).primary[0].noninferiority.verdict == "inferior"
    assert two(-0.03, margin=0.03).primary[0].noninferiority.verdict == "inconclusive"
    assert two(0.03, margin=0.03).primary[0].noninferiority.p < 0.001
    few = [method("old", [0.9, 0.8]), method("new", [0.895, 0.796])]  # 1 of 4 signs: p = 0.25
    found = compare_scores(few, ComparisonOptions(margin=0.02, resamples=5)).primary[0].noninferiority
    assert (found.verdict, found.p) == ("inconclusive", 0.25)
    assert "not inferior to old by the margin of 0.030" in "\n".join(two(-0.005, margin=0.03).verdict)


def test_sample_sizes_follow_from_the_spread():
    comparison = two(detect=0.01)
    (size,) = comparison.sample_sizes
    assert size.observed_cases == 30
    assert size.cases[0.8] < size.cases[0.9] < size.cases_high[0.9]
    # paired differences of the mean of two labels with noise 0.02 each: sd 0.02; (1.96 + 0.84)² · 4 + 2
    assert size.deviation == pytest.approx(0.02, rel=0.3)
    assert size.cases[0.8] == pytest.approx((2.8 * size.deviation / 0.01) ** 2 + 2, abs=2)
    assert any("needs" in line and "power of 80%" in line for line in comparison.verdict)


def test_two_pilot_cases_are_no_basis_of_a_study():
    # differences 0.02 and 0.08: deviation 0.03 · sqrt(2), limit · 15.95; (1.96 + 0.84)² · (sd / 0.01)² + 2
    methods = [method("old", [0.70, 0.60]), method("new", [0.72, 0.68])]
    comparison = compare_scores(methods, ComparisonOptions(resamples=5, detect=0.01))
    (size,) = comparison.sample_sizes
    assert size.deviation_high == pytest.approx(0.0424 * 15.95, rel=0.01)
    assert size.cases[0.8] == pytest.approx(143, abs=2)
    assert size.cases_high[0.8] == pytest.approx(7.849 * 67.66**2 + 2, rel=0.01)
    text = "\n".join(comparison.verdict)
    assert f"up to {size.cases_high[0.8]} and" in text
    assert "So few pilot cases (2) tell little about how much differences vary" in text
    assert "detect a difference of" not in text
    assert "2 cases cannot decide whether new and old differ: with fewer than 6 no test" in text


def test_equal_differences_do_not_give_a_number_of_cases():
    methods = [method("old", [0.5, 0.6, 0.7]), method("new", [0.6, 0.7, 0.8])]
    comparison = compare_scores(methods, ComparisonOptions(resamples=5, detect=0.01))
    assert comparison.sample_sizes[0].cases == {}
    assert any("needs an unknown number of cases" in line for line in comparison.verdict)


def beside_observer(cases, spread, margin=None):
    """Compare two methods with an observer, from which the second one differs by up to ``spread``."""
    theirs = np.linspace(0.6, 0.8, cases)
    ours = theirs + np.resize([spread, -spread], cases)
    methods = [method("poor", theirs - 0.2), method("new", ours)]
    options = ComparisonOptions(resamples=5, margin=margin)
    comparison = compare_scores(methods, options, observer=method("observer", theirs))
    return comparison, "\n".join(comparison.verdict)


def test_a_method_that_does_not_differ_from_the_observer_is_not_called_equal():
    comparison, text = beside_observer(12, 0.02)
    pair = comparison.observer[1]
    interval = f"95% interval {pair.ci_low:+.3f} to {pair.ci_high:+.3f}".replace("-", "−")
    assert "That does not show that new and observer are equal: only an interval within a margin" in text
    assert f"({interval})" in text
    assert len(comparison.to_json()["observer_notes"]) == 1  # that poor is below needs no explanation
    wide, _ = beside_observer(12, 0.02, margin=0.005)
    (note,) = wide.to_json()["observer_notes"]
    assert note.endswith(f"are equal: the {interval} reaches beyond the margin of 0.005.")
    narrow, _ = beside_observer(12, 0.02, margin=0.05)
    (note,) = narrow.to_json()["observer_notes"]
    assert note == f"new and observer are equal within the margin of 0.050: the {interval} lies within it."


def test_few_cases_of_an_observer_cannot_decide():
    _, text = beside_observer(5, 0.02, margin=0.5)
    # 2 methods: 2 · 2 / 2^7 = 0.03
    words = "whether {} and observer differ: with fewer than 7 no test adjusted for 2 comparisons can reach"
    assert words.format("poor") in text
    assert words.format("new") in text
    assert "equal within" not in text
    methods = [method("old", noisy(1, 0, labels=1)), method("new", noisy(2, 0, labels=1))]
    observer = method("observer", noisy(3, 0, labels=1)[:5])
    notes = compare_scores(methods, ComparisonOptions(resamples=5), observer=observer).notes
    assert notes[-1].startswith(
        "against observer, 5 cases are few: intervals are unreliable below 10 cases, and with 6 or"
    )


def test_subgroups_that_differ():
    old, new = noisy(1, 0), noisy(2, 0.03)
    new[::2] -= 0.06
    names = ("organ", "lesion")
    groups = {"site": {f"c{c:02}": "A" if c % 2 else "B" for c in range(29)}}
    methods = [method("old", old, names), method("new", new, names)]
    comparison = compare_scores(methods, ComparisonOptions(resamples=20), groups=groups)
    (site,) = comparison.subgroups
    assert set(site.groups) == {"A", "B", "(unknown)"}
    assert site.groups["A"].n == 14
    assert site.groups["A"].difference > 0 > site.groups["B"].difference
    assert site.p_interaction_holm < 0.01
    assert any("the groups differ" in line for line in comparison.verdict)
    with pytest.raises(DataError, match="no compared case"):
        compare_scores(methods, groups={"site": {"other": "A"}})


def test_the_second_observer_is_a_ceiling_and_not_ranked():
    names = ("organ", "lesion")
    methods = [method("old", noisy(1, -0.05), names), method("new", noisy(2, 0.0), names)]
    observer = method("second observer", noisy(3, 0.0)[:20], names)
    comparison = compare_scores(methods, ComparisonOptions(resamples=20), observer=observer)
    overall = [pair for pair in comparison.observer if pair.label == "overall"]
    assert [(pair.method, pair.n, pair.decision) for pair in overall] == [
        ("old", 20, "worse"),
        ("new", 20, "undecided"),
    ]
    assert comparison.methods == ("old", "new")
    assert any(line.startswith("old is below the agreement of second observer") for line in comparison.verdict)


def test_cases_that_no_method_was_to_segment_do_not_count_against_them_beside_an_observer():
    """An observer of 30 cases beside methods that were applied to 10 of them made 20 misses of the others."""
    tested = frozenset(f"c{c:02}" for c in range(10))
    methods = [
        method(name, noisy(seed, 0.0, labels=1)[:10], requested=tested) for seed, name in enumerate("ab")
    ]
    observer = method("observer", noisy(3, -0.05, labels=1))
    comparison = compare_scores(methods, ComparisonOptions(resamples=20), observer=observer)
    assert [(pair.n, pair.decision) for pair in comparison.observer] == [(10, "better"), (10, "better")]
    other = replace(observer, rows=[row for row in observer.rows if row["case"] > "c20"])
    with pytest.raises(DataError, match=r"9 cases \(such as c21\), but none of the 10"):
        compare_scores(methods, observer=other)


def test_rankings_by_hand():
    # means: a 0.65, b 0.6, c 0.55; ranks per case: a 1 1 1 3, b 2 2 2 1, c 3 3 3 2
    scores = {"a": [0.8, 0.8, 0.8, 0.2], "b": [0.7, 0.5, 0.6, 0.6], "c": [0.65, 0.45, 0.59, 0.51]}
    methods = [method(name, values) for name, values in scores.items()]
    table = align_scores(methods, ComparisonOptions())
    by_scheme = {one.scheme: one for one in rank_methods(table, ComparisonOptions(resamples=200))}
    mean, ranks = by_scheme["aggregate-then-rank"], by_scheme["rank-then-aggregate"]
    assert [(n, e.rank) for n, e in mean.methods.items()] == [("a", 1), ("b", 2), ("c", 3)]
    assert mean.methods["a"].score == pytest.approx(0.65)
    assert [e.score for e in ranks.methods.values()] == pytest.approx([1.5, 1.75, 2.75])
    tests = by_scheme["test-then-rank"]  # four cases: no test is significant, all share the rank 2
    assert [e.rank for e in tests.methods.values()] == [2, 2, 2]
    assert mean.methods["b"].shares[0] < 0.5
    for ranking in by_scheme.values():
        assert all(sum(entry.shares) == pytest.approx(1) for entry in ranking.methods.values())


def test_a_clear_ranking_is_stable():
    methods = [method(name, noisy(i, 0.05 * i), ("x", "y")) for i, name in enumerate("abc")]
    for ranking in compare_scores(methods, ComparisonOptions(resamples=100)).rankings:
        assert list(ranking.methods) == ["c", "b", "a"]
        assert ranking.kendall_tau > 0.95
        assert ranking.methods["c"].low == ranking.methods["c"].high == 1


def test_a_baseline_limits_the_pairs():
    methods = [method(name, noisy(i, 0), ("x", "y")) for i, name in enumerate("abc")]
    every = compare_scores(methods, ComparisonOptions(resamples=5))
    assert [(p.method, p.baseline) for p in every.primary] == [("b", "a"), ("c", "a"), ("c", "b")]
    one = compare_scores(methods, ComparisonOptions(resamples=5, baseline="b"))
    assert [(p.method, p.baseline) for p in one.primary] == [("a", "b"), ("c", "b")]
    with pytest.raises(ConfigError, match="not a method"):
        compare_scores(methods, ComparisonOptions(baseline="x"))
    with pytest.raises(ConfigError, match="at least two"):
        compare_scores(methods[:1])


def test_secondary_metrics_have_their_own_comparison():
    rows = [
        [{"case": str(i), "name": "organ", "dice": 0.5 + i / 50 + shift, "hd95": 3.0 + i % 3 - 20 * shift}
         for i in range(12)]
        for shift in (0.0, 0.05)
    ]  # fmt: skip
    methods = [MethodScores(name, own) for name, own in zip(("old", "new"), rows, strict=True)]
    comparison = compare_scores(methods, ComparisonOptions(also=("hd95",), margin=0.01, resamples=20))
    (other,) = comparison.secondary
    assert other.pairs[0].difference == pytest.approx(-1.0)
    assert other.pairs[0].noninferiority is None
    assert any(line.startswith("Secondary metric: new is better than old: HD95") for line in comparison.verdict)


def test_json_has_every_number():
    comparison = two(margin=0.01, detect=0.01)
    content = json.loads(json.dumps(comparison.to_json(), allow_nan=False))
    assert content["results"][0]["difference"] == comparison.pairs[0].difference
    assert np.shape(content["scores"]) == (2, 30, 2)
    assert content["metric"]["title"] == "Dice"


def test_few_cases_are_noted():
    notes = compare_scores([method("a", [0.5, 0.6]), method("b", [0.6, 0.7])]).notes
    assert any("2 cases are few" in note for note in notes)


def test_methods_that_all_tie_are_all_first():
    comparison = compare_scores([method(m, [0.5, 0.7, 0.6]) for m in "abc"], ComparisonOptions(resamples=20))
    for ranking in comparison.rankings:
        assert [entry.shares for entry in ranking.methods.values()] == [(1, 0, 0)] * 3
    assert comparison.verdict[0].startswith("Ranked first: a, b and c by ")
    assert "in 100% of resamples" in comparison.verdict[0]


def test_resamples_without_a_rare_label_are_left_out_of_its_ranking():
    names = ("organ", "rare")
    rare = [[0.5, 0.2 if c < 2 else NAN] for c in range(8)]
    better = [[0.6, 0.4 if c < 2 else NAN] for c in range(8)]
    methods = []
    for name, values in (("a", rare), ("b", better)):
        rows = [
            {"case": str(c), "name": label, "status": "scored", "dice": value}
            for c, row in enumerate(values)
            for label, value in zip(names, row, strict=True)
        ]
        methods.append(MethodScores(name, rows))
    rankings = rank_methods(align_scores(methods, ComparisonOptions()), ComparisonOptions(resamples=200))
    (ranking,) = (r for r in rankings if (r.scheme, r.label) == ("aggregate-then-rank", "rare"))
    assert ranking.kendall_tau == 1
    assert (ranking.methods["b"].low, ranking.methods["b"].high) == (1, 1)
    assert ranking.methods["b"].shares == (1, 0)


def test_a_single_case_has_no_interval():
    methods = [method("a", [0.9]), method("b", [0.5])]
    text = "\n".join(compare_scores(methods, ComparisonOptions(margin=0.05, resamples=5)).verdict)
    assert "is not decided (there is no interval, " in text
    assert "no loss" not in text


def test_a_case_that_no_method_has_is_not_counted_as_the_worst_score():
    scores = np.linspace(0.5, 0.9, 6)
    scores[2] = NAN
    other = scores.copy()
    other[3] = NAN
    methods = [
        method("a", other, reasons={"c02": "failed", "c03": "failed"}),
        method("b", scores, reasons={"c02": "failed"}),
    ]
    text = "\n".join(compare_scores(methods, ComparisonOptions(resamples=5)).verdict)
    assert "a has no result for 1 of 6 cases, counted as the worst score: c03 (failed)." in text
    assert "b has no result" not in text
    assert "because no method has a result: c02." in text


def test_an_observer_with_fewer_labels_is_in_the_verdict():
    names = ("organ", "lesion")
    methods = [method("old", noisy(1, -0.05), names), method("new", noisy(2, 0.0), names)]
    observer = method("observer", noisy(3, 0.0)[:, 1], ("lesion",))
    verdict = compare_scores(methods, ComparisonOptions(resamples=5), observer=observer).verdict
    lines = [line for line in verdict if "the agreement of observer" in line]
    assert len(lines) == 2
    assert all("Dice on lesion" in line for line in lines)
