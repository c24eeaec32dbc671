"""The report of a comparison: pictures of cases, and figures that are those of the tables."""

import csv
import json
import re

import numpy as np
import pytest
from conftest import write_volume

from medseg import compare_runs
from medseg.cli.main import run
from medseg.evaluation.comparison import ComparisonOptions, write_comparison_report
from medseg.study import ComparisonInputs

COUNT = 12
METHODS = ("old", "new", "third")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three methods that segment cubes of two labels, moved; one case of one method is missing."""
    root = tmp_path_factory.mktemp("compared")
    rng = np.random.default_rng(0)
    names = {"labels": {"names": {"background": [0], "organ": [1], "lesion": [2]}}}
    for index in range(COUNT):
        reference = np.zeros((12, 12, 12), np.uint8)
        reference[2:8, 2:8, 2 : 5 + index % 3] = 1
        reference[8:11, 8:11, 8:11] = 0 if index == 4 else 2
        write_volume(root / "labels" / f"case_{index}.nii.gz", reference)
        write_volume(
            root / "images" / f"case_{index}.nii.gz", rng.normal(100 * reference, 10).astype(np.float32)
        )
        for method in METHODS:
            moved = np.roll(reference, int(rng.integers(0, 3)), axis=int(rng.integers(0, 2)))
            if (method, index) != ("old", 7):
                write_volume(root / method / f"case_{index}.nii.gz", moved)
    for method in METHODS:
        (root / method / "medseg.json").write_text(json.dumps(names))
    return root


def compare(root, output, methods, images=None):
    inputs = ComparisonInputs(reference=root / "labels", images=images)
    options = ComparisonOptions(resamples=20, also=("hd95",))
    comparison = compare_runs([root / name for name in methods], output, options, inputs)
    write_comparison_report(output / "report.html", comparison)
    return (output / "report.html").read_text()


@pytest.fixture(scope="module")
def pages(root):
    return {count: compare(root, root / f"out{count}", METHODS[:count], root / "images") for count in (2, 3)}


def values_of(node):
    if isinstance(node, dict):
        return [value for one in node.values() for value in values_of(one)]
    if isinstance(node, list):
        return [value for one in node for value in values_of(one)]
    return [float(node)] if isinstance(node, int | float) or node in ("inf", "nan") else []


def means(values):
    """Return the means along the first axis without nan."""
    with np.errstate(invalid="ignore"):
        return np.nansum(values, axis=0) / (~np.isnan(values)).sum(axis=0)


def known_values(folder):
    """Return the figures of comparison.json, and those that follow from paired_scores.csv."""
    known = values_of(json.loads((folder / "comparison.json").read_text()))
    with (folder / "paired_scores.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for metric in {row["metric"] for row in rows}:
        own = [row for row in rows if row["metric"] == metric]
        shape = [len({row[key] for row in own}) for key in ("method", "case", "name")]
        scores = np.array([float(row["value"]) for row in own]).reshape(shape)
        for ours in scores:  # (C, L)
            of_labels = means(ours)
            known += [*ours.ravel(), *means(ours.T), *of_labels, of_labels.mean()]
            for theirs in scores:
                known += [*(ours - theirs).ravel(), *means((ours - theirs).T)]
    return known


@pytest.mark.parametrize("count", [2, 3])
def test_every_figure_is_in_the_tables(root, pages, count):
    known = np.array([*known_values(root / f"out{count}"), *range(COUNT + 1)])
    known = np.concatenate([known, np.abs(known)])
    found = re.findall(r'<data value="([^"]*)"[^>]*>(.*?)</data>', pages[count])
    assert len(found) > 100
    for text, shown in found:
        value = float(text)
        close = np.isclose(known, value, rtol=1e-7, atol=1e-12, equal_nan=True)
        assert close.any(), (value, shown)
        plain = shown.replace("−", "-").replace("+", "").replace(",", "")
        if re.fullmatch(r"-?[\d.]+", plain):
            digits = len(plain.partition(".")[2])
            assert float(plain) == pytest.approx(value, abs=0.5 * 10**-digits + 1e-9), (value, shown)


def test_no_figure_is_written_without_its_value(pages):
    for page in pages.values():
        body = page.partition("<main")[2].partition("section-how-this-was-measured")[0]
        hidden = r"<script.*?</script>|<data.*?</data>|<svg.*?</svg>|<title>.*?</title>|<[^>]*>"
        text = re.sub(hidden, " ", body, flags=re.DOTALL)
        assert re.findall(r"\d+\.\d+", text) == []


def test_notable_cases_are_drawn_side_by_side_and_linked(pages):
    for count, page in pages.items():
        articles = re.findall(r'<article class="case" id="case-(\w+)">(.*?)</article>', page, re.DOTALL)
        assert 4 <= len(articles) <= 9
        for case, content in articles:
            absent = case == "case_7"  # of which the first method has no result
            assert content.count("<img") == 2 + count - absent, case
            assert f'href="#case-{case}"' in page
        verdict = page.partition('class="verdict"')[2].partition("</section>")[0]
        assert '<a href="#case-' in verdict


@pytest.mark.slow
def test_tables_of_an_evaluation_remember_their_files(root):
    for method in METHODS[:2]:
        command = ["evaluate", str(root / method), str(root / "labels"), "--images", str(root / "images")]
        command += [
            "--missing",
            "ignore",
            "--no-report",
            "--jobs",
            "1",
            "--output",
            str(root / "evaluated" / method),
        ]
        assert run(command) == 0
    folders = [str(root / "evaluated" / method) for method in METHODS[:2]]
    content = json.loads((root / "evaluated" / "new" / "files.json").read_text())
    assert content["cases"]["case_0"]["prediction"] == "../../new/case_0.nii.gz"
    assert run(["compare", *folders, "--output", str(root / "tables")]) == 0
    page = (root / "tables" / "report.html").read_text()
    assert page.count("<article") >= 4
    assert page.count("<img") >= 4 * page.count("<article") - 1
    assert str(root) not in page
