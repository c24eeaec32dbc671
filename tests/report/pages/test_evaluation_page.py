import csv
import json
import math
import re

import numpy as np
import pytest
from conftest import write_volume
from markupsafe import Markup

from medseg.evaluation import EvaluationOptions, evaluate_cases, parse_labels
from medseg.evaluation.output import write_evaluation_report
from medseg.report.pages.case_sections import CaseSections
from medseg.report.pages.evaluation import write_evaluation_page
from medseg.report.pages.scored_cases import ScoredCases
from medseg.report.plots import Agreement

COUNT = 12


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """An evaluation of cubes that are moved, with one missed label, one added label and one missing case."""
    root = tmp_path_factory.mktemp("evaluated")
    rng = np.random.default_rng(0)
    for index in range(COUNT):
        reference = np.zeros((12, 12, 12), np.uint8)
        reference[2:8, 2:8, 2 : 5 + index % 3] = 1
        reference[8:11, 8:11, 8:11] = 0 if index == 4 else 2
        prediction = np.roll(reference, int(rng.integers(0, 3)), axis=0)
        if index == 3:
            prediction[prediction == 2] = 0
        if index == 4:
            prediction[9:11, 9:11, 9:11] = 2
        write_volume(root / "labels" / f"case_{index}.nii.gz", reference)
        if index < COUNT - 1:
            write_volume(root / "predictions" / f"case_{index}.nii.gz", prediction)
    options = EvaluationOptions(missing="ignore", labels=parse_labels("organ=1,lesion=2"))
    evaluation = evaluate_cases(root / "predictions", root / "labels", root / "out", options)
    write_evaluation_report(root / "out" / "report.html", evaluation)
    return root / "out"


@pytest.fixture(scope="module")
def page(evaluated):
    return (evaluated / "report.html").read_text()


def figures(text):
    return [
        (float(value), shown) for value, shown in re.findall(r'<data value="([^"]*)"[^>]*>(.*?)</data>', text)
    ]


def values_of(node):
    if isinstance(node, dict):
        return [value for one in node.values() for value in values_of(one)]
    if isinstance(node, list):
        return [value for one in node for value in values_of(one)]
    return [float(node)] if isinstance(node, int | float) or node in ("inf", "nan") else []


def read_rows(evaluated):
    with (evaluated / "cases.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def same(a, b):
    return (math.isnan(a) and math.isnan(b)) or a == b or math.isclose(a, b, rel_tol=1e-8)


def test_every_figure_is_in_the_tables(evaluated, page):
    rows, summary = read_rows(evaluated), json.loads((evaluated / "summary.json").read_text())
    known = values_of(summary) + list(range(len(rows) + 1))
    for row in rows:
        for value in row.values():
            known += [float(value)] if re.fullmatch(r"-?[\d.]+(e[-+]?\d+)?|inf|nan", value) else []
    for name in ("organ", "lesion"):  # bias and limits of agreement of the volumes
        own = [r for r in rows if r["name"] == name and r["status"] == "scored" and r["dice"] != "nan"]
        sizes = ([float(r[key]) for r in own] for key in ("reference_volume_mm3", "predicted_volume_mm3"))
        agreement = Agreement.of(*sizes)
        known += [abs(agreement.bias), agreement.low, agreement.high]
    found = figures(page)
    assert len(found) > 150
    for value, shown in found:
        assert any(same(value, one) for one in known), (value, shown)
        if math.isfinite(value):
            text = shown.replace("−", "-").replace("+", "").replace(",", "")
            digits = len(text.partition(".")[2])
            assert float(text) == pytest.approx(value, abs=0.5 * 10**-digits + 1e-9), (value, shown)


def test_no_figure_is_written_without_its_value(page):
    body = page.partition("<main")[2].partition("section-how-this-was-measured")[0]
    text = re.sub(
        r"<script.*?</script>|<data.*?</data>|<svg.*?</svg>|<title>.*?</title>|<[^>]*>",
        " ",
        body,
        flags=re.DOTALL,
    )
    text = text.replace("1.5 times", "").replace("95% interval", "")
    assert re.findall(r"\d+\.\d+", text) == []


def test_the_table_of_cases_has_the_rows_of_the_csv_worst_first(evaluated, page):
    table = page.partition("<caption>Scores of every case and label")[2].partition("</table>")[0]
    heads = [re.sub("<[^>]*>", "", one) for one in re.findall('<th scope="col".*?</th>', table)]
    rows = {(row["case"], row["name"]): row for row in read_rows(evaluated)}
    shown = []
    for line in re.findall('<tr[^>]*><th scope="row">.*?</tr>', table, re.DOTALL):
        cells = [re.sub("<[^>]*>", "", cell) for cell in re.findall("<t[hd][^>]*>.*?</t[hd]>", line)]
        exact = dict(zip(heads[3:], [value for value, _ in figures(line)], strict=True))
        row = rows.pop((cells[0], cells[1]))
        for head, key in (("Dice", "dice"), ("NSD", "nsd"), ("HD95 (mm)", "hd95"), ("recall", "recall")):
            assert same(exact[head], float(row[key])), (cells, head)
        shown.append((exact["Dice"], cells[2]))
    assert rows == {}
    scored = [dice for dice, _ in shown if not math.isnan(dice)]
    assert scored == sorted(scored)
    assert math.isnan(shown[-1][0])  # the case without a prediction is last, and is there
    assert [finding for _, finding in shown].count("never predicted") == 2


def test_the_table_of_labels_has_the_means_of_the_summary(evaluated, page):
    summary = json.loads((evaluated / "summary.json").read_text())
    table = page.partition("<caption>Scores by label")[2].partition("</table>")[0]
    line = re.search('<th scope="row">lesion</th>.*?</tr>', table)[0]
    dice = summary["labels"]["lesion"]["metrics"]["dice"]
    expected = [dice["n"], dice["mean"], dice["ci_low"], dice["ci_high"], dice["median"]]
    assert all(same(value, float(one)) for (value, _), one in zip(figures(line), expected, strict=False))


def test_points_of_plots_are_the_scores(evaluated, page):
    plot = page.partition('aria-label="Box plot of Dice')[2].partition("</svg>")[0]
    expected = [f"{r['case']}: {float(r['dice']):.3f}" for r in read_rows(evaluated) if r["dice"] != "nan"]
    assert sorted(re.findall("<title>(.*?)</title>", plot)) == sorted(expected)


def test_the_verdict_names_what_was_missed(page):
    verdict = re.sub("<[^>]*>", "", page.partition('class="verdict"')[2].partition("</section>")[0])
    assert "Mean Dice over 2 labels is" in verdict
    assert f"{COUNT - 1} of {COUNT} references were scored" in verdict
    assert "1 of 21 structures was missed entirely (Dice 0): case_3 (lesion)" in verdict
    assert "1 structure was predicted where the reference has none: case_4 (lesion)" in verdict
    assert f"1 case was never predicted, left out of every mean: case_{COUNT - 1}" in verdict


def rows_of(scores):
    return [
        {
            "case": f"c{i}",
            "name": "a",
            "status": "scored",
            "dice": dice,
            "reference_volume_mm3": 9,
            "predicted_volume_mm3": 9,
        }
        for i, dice in enumerate(scores)
    ]


def test_outliers_are_below_the_fence_of_their_label():
    # quartiles 0.9 and 0.91: fence 0.9 - 1.5 * 0.01
    cases = ScoredCases(rows_of([0.9, 0.9, 0.9, 0.91, 0.91, 0.91, 0.9, 0.91, 0.884, 0.886]))
    assert [one.case for one in cases.found("outlier")] == ["c8"]
    assert ScoredCases(rows_of([0.9, 0.9, 0.1])).found("outlier") == []  # too few cases to tell


def test_copies_of_the_references_are_named_on_the_page(tmp_path):
    for name in "ab":
        for folder in ("predictions", "labels"):
            write_volume(tmp_path / folder / f"{name}.nii.gz", np.eye(4, dtype=np.uint8)[None])
    evaluation = evaluate_cases(tmp_path / "predictions", tmp_path / "labels")
    write_evaluation_report(tmp_path / "report.html", evaluation)
    assert "Predictions are equal to the references in all 2 cases" in (tmp_path / "report.html").read_text()


def test_missed_structures_of_missing_cases_count_on_the_page_as_in_the_table(tmp_path):
    reference = np.zeros((4, 4, 4), np.uint8)
    reference[1:3, 1:3, 1] = 1
    reference[1:3, 1:3, 2] = 2
    for name in "abc":
        write_volume(tmp_path / "labels" / f"{name}.nii.gz", reference)
    write_volume(tmp_path / "predictions" / "a.nii.gz", np.where(reference == 2, 0, reference))
    (tmp_path / "predictions" / "b.nii.gz").write_bytes(b"")  # c was never predicted
    options = EvaluationOptions(missing="worst", labels=parse_labels("x=1,y=2"))
    evaluation = evaluate_cases(tmp_path / "predictions", tmp_path / "labels", options=options)
    write_evaluation_report(tmp_path / "report.html", evaluation)
    text = re.sub("<[^>]*>", "", (tmp_path / "report.html").read_text())
    structures = evaluation.summary["overall"]["structures"]
    assert (structures["missed"], structures["in_reference"]) == (5, 6)  # y of a, both of b and c
    assert "5 of 6 structures were missed entirely" in text
    worst = text.partition("Worst cases")[2]
    assert "There is no prediction to draw: there is no label map" in worst


def test_worst_cases_are_those_with_the_lowest_mean():
    rows = [
        {"case": case, "name": name, "status": "scored", "dice": dice}
        for case, name, dice in (
            ("x", "a", 0.9),
            ("x", "b", 0.1),
            ("y", "a", 0.4),
            ("y", "b", math.nan),
            ("z", "a", 0.8),
        )
    ]
    assert ScoredCases(rows).worst_cases(2) == ["y", "x"]


def test_pictures_are_linked_from_the_table(evaluated, tmp_path):
    rows = [dict(row) for row in read_rows(evaluated)]
    summary = json.loads((evaluated / "summary.json").read_text())
    sections = CaseSections({"case_3": Markup("<p>picture</p>")}, styles=("p { margin: 1px }",))
    write_evaluation_page(tmp_path / "report.html", rows, summary, sections)
    text = (tmp_path / "report.html").read_text()
    assert '<article class="case" id="case-case_3"><details open>' in text
    assert '<th scope="row"><a href="#case-case_3">case_3</a></th>' in text
    assert '<th scope="row">case_5</th>' in text
    assert "p { margin: 1px }" in text
