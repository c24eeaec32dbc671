import math
import re

import numpy as np
import pytest

from medseg.report import plots


def titles(svg):
    return re.findall(r"<title>(.*?)</title>", str(svg))


def described(svg):
    return re.search(r'aria-label="([^"]*)"', str(svg))[1]


def test_every_case_is_a_point_of_a_box_plot():
    group = plots.Group("liver", [0.5, 0.7, 0.8, 0.9, math.nan], ["a", "b", "c", "d", "e"])
    svg = plots.box_plot([group], "Dice", score=True)
    assert titles(svg) == ["a: 0.500", "b: 0.700", "c: 0.800", "d: 0.900"]
    assert "liver: n = 4, median 0.750, from 0.500 to 0.900" in described(svg)
    assert 'class="median"' in svg


def test_infinite_distances_have_a_place_of_their_own():
    svg = plots.box_plot([plots.Group("liver", [1.0, math.inf], ["a", "b"])], "HD95", unit="mm", digits=2)
    assert titles(svg) == ["a: 1.00 mm", "b: ∞ mm"]
    xs = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', str(svg))]
    assert max(xs) < 400
    assert xs[1] > xs[0]


def test_names_from_the_data_are_escaped():
    svg = plots.box_plot([plots.Group("<b>", [0.5], ["<script>"])], "Dice")
    assert "<script>" not in svg
    assert "&lt;script&gt;" in svg


def test_histograms_count():
    svg = plots.histogram([plots.Group("a", [0, 0, 1], list("xyz"))], "size", bins=2)
    assert titles(svg) == ["0 to 0.5: 2", "0.5 to 1: 1"]


def test_limits_of_agreement():
    # differences 1 and 3: mean 2, standard deviation sqrt(2)
    agreement = plots.Agreement.of([1, 1], [2, 4])
    assert agreement.bias == 2
    assert agreement.high == pytest.approx(2 + 1.96 * math.sqrt(2))
    svg = plots.bland_altman([1, 1], [2, 4], ["a", "b"], unit="ml")
    assert titles(svg) == ["a: 1 ml at a mean of 1.5 ml", "b: 3 ml at a mean of 2.5 ml"]
    assert "bias 2 ml" in described(svg)


def test_confusion_is_in_percent_of_the_reference():
    svg = plots.confusion_plot([[90, 10], [1, 3]], ["background", "tumor"])
    assert "background predicted as tumor: 10.00%" in titles(svg)
    assert "tumor predicted as tumor: 75.00%" in titles(svg)
    assert described(svg).endswith("background 90.0%, tumor 75.0%")


def test_reliability_leaves_out_empty_bins():
    svg = plots.reliability_curve([0.1, 0.5, 0.9], [0.2, math.nan, 0.8], [100, 0, 50])
    assert len(titles(svg)) == 2
    assert titles(svg)[0] == "probability 0.10: 0.20 observed, 100 voxels"


def test_curves_differ_in_more_than_color():
    curves = [plots.Curve(f"label {i}", [0, 1], [0.1 * i, 0.2]) for i in range(10)]
    svg = str(plots.curve_plot(curves, "Dice", score=True))
    assert svg.count("stroke-dasharray") == 2  # the ninth and tenth repeat colors, with dashes
    assert svg.count("<polyline") == 10
    assert "label 3: 0.3 at step 0, 0.2 at step 1" in svg


def test_undefined_values_are_left_out_of_curves():
    svg = plots.curve_plot([plots.Curve("loss", [0, 1, 2], [1.0, math.nan, 0.5])], "loss", log=True)
    assert len(titles(svg)) == 2


def test_differences_name_winners_and_losers():
    difference = plots.Difference("B − A", [0.1, -0.05, math.nan], ["a", "b", "c"], 0.025, -0.1, 0.15)
    svg = plots.difference_plot([difference], "Dice")
    assert titles(svg)[:2] == ["a: +0.100", "b: −0.050"]
    assert "better in 1 and worse in 1 of 3 cases" in described(svg)


def test_ranks_are_areas():
    svg = plots.rank_plot(["A", "B"], [[0.75, 0.25], [0.25, 0.75]])
    assert titles(svg)[0] == "A: rank 1 in 75.0% of the samples"
    radii = [float(r) for r in re.findall(r' r="([\d.]+)"', str(svg))]
    assert (radii[0] / radii[1]) ** 2 == pytest.approx(3, rel=0.01)


@pytest.mark.parametrize(
    "svg",
    [
        plots.box_plot([plots.Group("a", [], [])], "Dice"),
        plots.histogram([plots.Group("a", [], [])], "size", log=True),
        plots.bland_altman([], [], []),
        plots.curve_plot([], "loss"),
        plots.interval_plot([plots.Estimate("a", math.nan, math.nan, math.nan)], "Dice", reference=0),
        plots.bar_chart(["a"], [0], "cases"),
        plots.difference_plot([plots.Difference("a", [], [], math.nan, math.nan, math.nan)], "Dice"),
        plots.paired_scatter([], [], [], ("a", "b"), "Dice"),
        plots.reliability_curve([], [], []),
    ],
    ids=range(9),
)
def test_plots_of_nothing_are_empty(svg):
    assert str(svg).startswith("<svg")
    assert "nan" not in re.sub(r'aria-label="[^"]*"', "", str(svg))


def test_plots_stay_in_their_frame():
    rng = np.random.default_rng(0)
    values = rng.gamma(2, 30, 50).tolist()
    names = [f"case {i}" for i in range(50)]
    for svg in (
        plots.box_plot([plots.Group("a label with a very long name indeed", values, names)], "HD95", unit="mm"),
        plots.bland_altman(values, [v * 1.1 for v in values], names, unit="ml"),
        plots.paired_scatter(values, values[::-1], names, ("a", "b"), "HD95"),
    ):
        height = float(re.search(r'viewBox="0 0 400 ([\d.]+)"', str(svg))[1])
        for x, y in re.findall(r'cx="([\d.-]+)" cy="([\d.-]+)"', str(svg)):
            assert 0 <= float(x) <= 400
            assert 0 <= float(y) <= height
