import math

import pytest

from medseg.metrics import latex_table, markdown_table, summarize


def row(case, name, dice, hd95, **counts):
    counts = {"tp": 0, "fp": 0, "fn": 0, "tn": 1} | counts
    scores = {"dice": dice, "iou": dice, "nsd": dice, "hd95": hd95}
    return {"case": case, "label": "1", "name": name, **scores, **counts, "diagonal_mm": 100.0}


ROWS = [
    row("a", "big_one", 0.9, 1.0, tp=9),
    row("b", "big_one", 0.9, 1.0, tp=9),
    row("a", "50% & less", 0.5, 2.0, tp=4),
    row("b", "50% & less", 0.0, math.inf, fn=4),
]


def cells(text, name):
    line = next(line for line in text.splitlines() if line.startswith(f"| {name}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_each_cell_has_mean_and_interval():
    text = markdown_table(summarize(ROWS))
    assert cells(text, "label") == ["label", "n", "missed", "spurious", "Dice", "NSD", "HD95 (mm)"]
    big = "0.900 (0.900 to 0.900)"
    assert cells(text, "big_one") == ["big_one", "2", "0 of 2", "0", big, big, "1.00 (1.00 to 1.00)"]
    # the distance of the missed structure is the diagonal: (2 + 100) / 2; Student's t: 51 ± 12.706 · 49
    assert cells(text, "50%")[-1] == "51.00 (0.00 to 673.60)"
    assert "count as the image's diagonal" in text
    assert "tolerance of NSD: 1 mm" in text


def test_a_mean_of_fewer_cases_shows_its_n():
    text = markdown_table(summarize(ROWS, misses="exclude"), ["dice", "hd95"])
    assert cells(text, "50%") == ["50% & less", "2", "1 of 2", "0", "0.250 (0.000 to 1.000)", "2.00 (n = 1)"]
    assert "left out" in text


def test_a_score_that_no_case_has_is_a_dash():
    text = markdown_table(summarize([row("a", "x", math.nan, math.nan)]))
    assert cells(text, "x")[4:] == ["–", "–", "–"]


def test_latex_is_escaped():
    text = latex_table(summarize(ROWS), ["dice"])
    assert r"50\% \& less & 2 & 1 of 2 & 0 & 0.250 (0.000 to 1.000) \\" in text
    assert r"big\_one" in text
    assert text.count(r"\\") == 3
    assert r"\begin{tabular}{lrrrr}" in text


def test_cases_that_were_not_scored_are_stated():
    coverage = {"references": 5, "scored": 2, "missing": {"c": "", "d": ""}, "failed": {"e": "damaged"}}
    summary = summarize(ROWS) | {"coverage": coverage | {"missing_policy": "worst", "not_requested": 0}}
    text = markdown_table(summary | {"provenance": {"medseg": "9.9"}})
    assert "2 of 5 references scored." in text
    assert "2 without a prediction, counted with the worst scores." in text
    assert "1 could not be compared" in text
    assert "medseg 9.9." in text


def test_a_case_without_scores_is_not_counted_as_worst():
    coverage = {"references": 4, "scored": 2, "missing": {}, "failed": {"d": "damaged", "e": "damaged"}}
    coverage |= {"missing_policy": "worst", "not_requested": 0, "unscored": ["e"]}
    text = markdown_table(summarize(ROWS) | {"coverage": coverage})
    assert "1 could not be compared, counted with the worst scores." in text
    assert "1 could not be compared, left out." in text


def test_an_unknown_column():
    with pytest.raises(ValueError, match="volume_error"):
        markdown_table(summarize(ROWS), ["volume_error"])


def test_names_of_labels_are_no_markup():
    summary = summarize([row("a", "<b>x|y</b>", 0.5, 1.0)])
    assert "| &lt;b>x\\|y&lt;/b> |" in markdown_table(summary)
    assert r"$<$b$>$x|y$<$/b$>$ &" in latex_table(summary)
