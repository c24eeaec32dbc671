import itertools
import math
import re

import numpy as np
import pytest

from medseg.evaluation.comparison import (
    ComparisonOptions,
    MethodScores,
    compare_scores,
    write_comparison_report,
)
from medseg.report.pages.comparison.page import write_comparison_page
from medseg.report.pages.comparison.values import p_value

SCORES = {"old": [0.80, 0.70, 0.90, 0.60], "new": [0.85, 0.78, 0.88, 0.70]}
CASES = ["a", "b", "c", "d"]


RESULT = {
    "method": "new",
    "baseline": "old",
    "label": "liver",
    "n": 4,
    "n_excluded": 0,
    "mean_method": 0.8025,
    "mean_baseline": 0.75,
    "difference": 0.0525,
    "ci_low": 0.01,
    "ci_high": 0.09,
    "median": 0.065,
    "wins": 3,
    "losses": 1,
    "ties": 0,
    "p_permutation_holm": 0.0004,
    "p_wilcoxon_holm": 0.03,
    "rank_biserial": 0.8,
    "cohen_dz": 1.0,
    "improvement": 0.75,
    "improvement_low": 0.3,
    "improvement_high": 0.95,
    "decision": "better",
    "noninferiority": None,
}


def result(**changes):
    return RESULT | changes


def comparison(results, methods=("old", "new"), **more):
    return {
        "methods": list(methods),
        "labels": ["liver"],
        "cases": CASES,
        "metric": {"name": "dice", "title": "Dice", "better": "higher"},
        "scores": [[[value] for value in SCORES.get(name, SCORES["old"])] for name in methods],
        "results": results,
        "options": {"alpha": 0.05, "missing": "worst"},
        **more,
    }


def write(tmp_path, content):
    write_comparison_page(tmp_path / "report.html", content)
    return (tmp_path / "report.html").read_text()


def verdict(page):
    return re.sub("<[^>]*>", "", page.partition('class="verdict"')[2].partition("</section>")[0])


def test_the_verdict_says_which_is_better_by_how_much_and_where_it_fails(tmp_path):
    text = verdict(write(tmp_path, comparison([result()])))
    assert "new is better than old: mean Dice 0.802 of new against 0.750 of old, over 4 cases." in text
    assert "Dice: overlap with the reference, from 0 (none) to 1 (identical)." in text
    assert "By how much: +0.052 (95% interval +0.010 to +0.090), p &lt; 0.001" in text
    assert "new is better in 3 and worse in 1 of 4 cases" in text
    assert "Where new is worst: d (0.700), b (0.780)" in text
    assert "Where old is better than new by most: c (0.020)" in text


def test_an_undecided_comparison_says_so(tmp_path):
    text = verdict(write(tmp_path, comparison([result(decision="undecided")])))
    assert "No difference is established between new and old" in text


def test_an_undecided_comparison_says_what_it_could_have_detected(tmp_path):
    size = {"method": "new", "baseline": "old", "detectable": 0.0312, "observed_cases": 4, "difference": None}
    own = result(decision="undecided", p_wilcoxon_holm=0.2)
    text = verdict(write(tmp_path, comparison([own], sample_sizes=[size])))
    assert (
        "does not show that they are equal: 4 cases detect a difference of 0.031 with a probability of 80%"
        in text
    )
    assert "typical case" not in text


def test_too_few_cases_are_not_said_to_detect_a_difference(tmp_path):
    size = {"method": "new", "baseline": "old", "detectable": 0.03, "observed_cases": 4, "difference": 0.01,
            "cases": {"0.8": 9}, "cases_high": {"0.8": 900}, "caution": "So few tell little."}  # fmt: skip
    page = write(tmp_path, comparison([result(decision="undecided")], sample_sizes=[size], fewest_cases=6))
    assert (
        "4 cases cannot decide whether they differ: with fewer than 6 no test can reach p &lt; 0.05"
        in verdict(page)
    )
    assert "detect a difference" not in verdict(page)
    assert "So few tell little." in page


def test_a_rank_test_that_disagrees_is_named(tmp_path):
    text = verdict(write(tmp_path, comparison([result(p_wilcoxon_holm=0.3)])))
    words = (
        "The mean differs, the typical case hardly does (a median difference of +0.065; test of the ranks: p = "
    )
    assert words in text
    text = verdict(write(tmp_path, comparison([result(decision="undecided", p_wilcoxon_holm=0.01)])))
    assert (
        "In the typical case new is better (a median difference of +0.065; test of the ranks: p = 0.010)"
        in text
    )
    other = result(decision="undecided", p_wilcoxon_holm=0.01, median=-0.065)
    text = verdict(write(tmp_path, comparison([other])))
    assert "In the typical case old is better (a median difference of +0.065;" in text


def test_missed_structures_and_complete_cases_are_counted(tmp_path):
    missed = {"old": {"structures": 4, "missed": [["b", "liver"]]}, "new": {"structures": 4, "missed": []}}
    complete = result(n=3, decision="undecided", difference=0.012, ci_low=-0.02, ci_high=0.04)
    text = verdict(write(tmp_path, comparison([result()], missed_structures=missed, complete_cases=[complete])))
    assert "Structures missed entirely: new 0 of 4; old 1 of 4: b." in text
    page = write(tmp_path, comparison([result()], missed_structures=missed))
    row = re.search('<tr><th scope="row">old</th>.*?</tr>', page)[0]
    assert [float(v) for v in re.findall('value="([^"]*)"', row)] == [
        0.75,
        0.6,
        1,
        0,
    ]  # mean, lowest, missed, missing
    expected = "On the 3 cases that both have results of, no difference is established: +0.012 (95% interval"
    assert expected in text


def test_secondary_metrics_have_a_line(tmp_path):
    other = comparison([result(difference=-0.5, ci_low=-0.9, ci_high=-0.1)], unit="mm")
    other["metric"] = {"name": "hd95", "title": "HD95", "better": "lower"}
    text = verdict(write(tmp_path, comparison([result()], secondary=[other])))
    assert "HD95: new is better than old: −0.50 mm (−0.90 to −0.10), p &lt; 0.001" in text


def test_a_second_observer_is_in_the_verdict(tmp_path):
    beside = [
        result(
            method=name,
            baseline="observer 2",
            label=label,
            mean_method=dice,
            mean_baseline=0.77,
            decision=decision,
        )
        for label in ("overall", "liver")
        for name, dice, decision in (("old", 0.75, "worse"), ("new", 0.8025, "undecided"))
    ]
    note = "4 cases cannot decide whether new and observer 2 differ: no test can reach p < 0.05."
    page = write(tmp_path, comparison([result()], observer=beside, observer_notes=[note]))
    escaped = note.replace("<", "&lt;")
    assert page.count(escaped) == 2  # in the verdict and under the table
    assert escaped in verdict(page)
    assert "ceiling" not in page
    words = "Agreement of observer 2 with the reference: Dice 0.770 (over 4 cases). old 0.750, worse; "
    assert words + "new 0.802, not shown to differ." in verdict(page)


WORSE = {
    "method": "old",
    "baseline": "new",
    "mean_method": 0.75,
    "mean_baseline": 0.8025,
    "difference": -0.0525,
    "ci_low": -0.09,
    "ci_high": -0.01,
    "median": -0.065,
    "wins": 1,
    "losses": 3,
    "improvement": 0.25,
    "improvement_low": 0.05,
    "improvement_high": 0.7,
    "decision": "worse",
}


def test_the_figures_of_the_verdict_are_those_of_the_better_method(tmp_path):
    size = {"method": "old", "baseline": "new", "detectable": 0.03, "observed_cases": 4, "difference": None}
    better, worse = (
        verdict(write(tmp_path, comparison([one], sample_sizes=[size]))) for one in (result(), result(**WORSE))
    )
    assert better == worse
    assert "By how much: +0.052 (95% interval +0.010 to +0.090)" in worse
    assert (
        "new is better in 3 and worse in 1 of 4 cases; on a new case it is the better one with a probability "
        in worse
    )
    assert "of 75% (95% interval 30% to 95%)" in worse


def test_the_probability_on_a_new_case_needs_three_cases(tmp_path):
    page = write(tmp_path, comparison([result(n=2, wins=2, losses=0)]))
    assert "new is better in 2 and worse in 0 of 2 cases." in verdict(page)
    assert "on a new case" not in verdict(page)


def test_a_note_that_asks_ends_with_its_mark(tmp_path):
    notes = ["few cases", "are these results of the same predictions?"]
    text = verdict(write(tmp_path, comparison([result()], notes=notes)))
    assert "Note: few cases." in text
    assert "Note: are these results of the same predictions?" in text
    assert "?." not in text


def test_of_several_methods_the_labels_and_what_disagrees_are_named(tmp_path):
    results = [result(label="overall"), result(label="overall", method="third", p_wilcoxon_holm=0.3)]
    content = comparison(results, ("old", "new", "third")) | {"labels": ["liver", "spleen"]}
    # of the spleen, old is best
    content["scores"] = [[[value, 0.9 if k == 0 else 0.8] for value in SCORES.get(name, SCORES["old"])]
                         for k, name in enumerate(content["methods"])]  # fmt: skip
    text = verdict(write(tmp_path, content))
    assert "The mean is that of 4 cases on liver and spleen." in text
    assert "Best mean by label: liver: new (0.802); spleen: old (0.900)." in text
    assert "third is better than old: +0.052" in text
    assert "p &lt; 0.001. The mean differs, the typical case hardly does" in text


def test_several_methods_are_ranked(tmp_path):
    ranks = {name: {"rank": i + 1, "score": 0.8, "low": 1, "high": 2, "shares": [0.75, 0.25, 0]} for i, name in
             enumerate(("new", "old", "third"))}  # fmt: skip
    rankings = [{"scheme": "aggregate-then-rank", "label": "liver", "methods": ranks, "kendall_tau": 0.9}]
    results = [result(), result(method="third", baseline="old", decision="undecided")]
    page = write(tmp_path, comparison(results, ("old", "new", "third"), rankings=rankings))
    text = verdict(page)
    assert (
        "new ranks first of 3 methods by mean Dice (0.802); it ranks first in 75% of the bootstrap samples"
        in text
    )
    assert "new is better than old: +0.052" in text
    assert "third does not differ clearly from old" in text
    assert "Stability of the ranking. new: rank 1 in 75% of the samples" in page


def test_missing_cases_and_noninferiority_are_named(tmp_path):
    found = {"margin": 0.02, "verdict": "non-inferior", "p": 0.01}
    content = comparison([result(noninferiority=found)], missing={"old": {"b": "no label map"}})
    text = verdict(write(tmp_path, content))
    assert "new is not worse than old by 0.020 or more (non-inferior, p = 0.010)" in text
    assert "old has no result of 1 case, counted with the worst score: b" in text


def test_the_table_of_cases_starts_where_the_best_method_is_worst(tmp_path):
    page = write(tmp_path, comparison([result()]))
    table = page.partition("<caption>Dice of every case, worst of new first")[2].partition("</table>")[0]
    assert re.findall('<th scope="row">(.)</th>', table) == ["d", "b", "a", "c"]
    first = re.search('<tr><th scope="row">d.*?</tr>', table)[0]
    assert [float(v) for v in re.findall('value="([^"]*)"', first)] == pytest.approx([0.6, 0.7, 0.1])


def test_p_values():
    assert p_value(0.0004) == 'p <data value="0.0004">&lt; 0.001</data>'
    assert p_value(0.04) == 'p = <data value="0.04">0.040</data>'
    assert p_value("nan") == "p not defined"


def scored(name, seed, *, absent, missed=()):
    """Return the scores of a method on twelve cases and two labels; it has no result of one of them."""
    rng = np.random.default_rng(seed)
    rows = []
    for case, label in itertools.product(range(12), ("liver", "spleen")):
        dice = 0.0 if (case, label) in missed else float(rng.uniform(0.7, 0.95))
        found = {"tp": 0.0 if dice == 0 else 90.0, "fp": 10.0, "fn": 100.0 if dice == 0 else 10.0}
        distance = {"hd95_mm": math.inf if dice == 0 else float(rng.uniform(1, 5)), "diagonal_mm": 50.0}
        row = {"case": f"c{case}", "name": label, "status": "scored", "dice": dice}
        rows += [row | found | distance] if case != absent else []
    return MethodScores(name, rows)


def numbers_of(node):
    if isinstance(node, dict | list):
        return [v for one in (node.values() if isinstance(node, dict) else node) for v in numbers_of(one)]
    return [float(node)] if isinstance(node, int | float) or node in ("inf", "nan") else []


def means(scores):
    """Return scores (M, C, L) and all that follows from them: means, differences, and differences of means."""
    of_cases, of_labels = np.mean(scores, axis=2), np.mean(scores, axis=1)
    every = [scores, of_cases, of_labels, np.mean(of_labels, axis=1)]
    return np.concatenate([one.ravel() for one in (*every, *(b - a for a, b in every))])


def test_every_figure_is_in_the_tables(tmp_path):
    methods = [scored("old", 0, absent=11, missed=[(3, "spleen")]), scored("new", 1, absent=5)]
    options = ComparisonOptions(also=("hd95",), margin=0.02, detect=0.03)
    compared = compare_scores(methods, options)
    write_comparison_report(tmp_path / "report.html", compared)
    content, powers = compared.to_json(), [0.8, 0.9]
    scores = [np.array(one["scores"], float) for one in (content, *content["secondary"])]
    known = np.concatenate([numbers_of(content), *map(means, scores), np.arange(40), powers])
    page = (tmp_path / "report.html").read_text()
    found = re.findall(r'<data value="([^"]*)"[^>]*>(.*?)</data>', page)
    assert len(found) > 150
    for text, shown in found:
        value = float(text)
        close = np.isclose(np.abs(known), abs(value), rtol=1e-7, atol=1e-12, equal_nan=True)
        assert close.any(), (value, shown)
        digits = re.sub("[%,+]", "", shown.replace("−", "-"))
        if math.isfinite(value) and "&lt;" not in shown:
            exact = 100 * value if shown.endswith("%") else value
            rounding = 0.5 * 10.0 ** -len(digits.partition(".")[2])
            assert float(digits) == pytest.approx(exact, abs=rounding + 1e-9), (value, shown)
