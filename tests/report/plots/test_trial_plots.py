import math
import re

from medseg.report.plots import TrialCurve, TrialPoint, front_plot, history_plot, slice_plot, trial_curves

POINTS = [
    TrialPoint("trial 0", 0, 0.5),
    TrialPoint("trial 1", 1, 0.2, "pruned"),
    TrialPoint("trial 2", 2, 0.8, "best"),
    TrialPoint("trial 3", 3, math.nan),
]


def numbers(text, attribute):
    return [float(one) for one in re.findall(rf'<circle[^>]* {attribute}="([^"]+)"', str(text))]


def test_the_history_follows_the_best_score_so_far():
    drawn = str(history_plot(POINTS, "Dice", reference=0.5))
    assert 'aria-label="Dice of 3 trials; the best is 0.800"' in drawn
    (line,) = re.findall(r'<polyline points="([^"]+)"', drawn)
    heights = [float(point.split(",")[1]) for point in line.split()]
    assert heights == sorted(heights, reverse=True)  # up the page, never by a pruned trial
    assert len(set(heights)) == 2
    lower = str(history_plot([TrialPoint("a", 0, 2.0), TrialPoint("b", 1, 1.0, "best")], "s", higher=False))
    assert "the best is 1.000" in lower


def test_slices_place_values_and_categories():
    points = [TrialPoint("a", 0.001, 0.5), TrialPoint("b", 0.01, 0.8, "best"), TrialPoint("c", 0.1, 0.6)]
    a, c, b = numbers(slice_plot(points, "Dice", "lr", log=True), "cx")[:3]  # the best is drawn last
    assert round(b - a, 1) == round(c - b, 1)  # decades are equally far apart
    named = [TrialPoint("a", "wide", 0.5), TrialPoint("b", "narrow", 0.8, "best")]
    drawn = str(slice_plot(named, "Dice", "width", categories=("wide", "narrow", "tiny")))
    labels = re.findall(r"<text[^>]*>(wide|narrow|tiny)</text>", drawn)
    assert labels == ["wide", "narrow", "tiny"]  # in the given order
    assert "the best trial has narrow" in drawn


def test_the_front_connects_its_trials():
    points = [TrialPoint("a", 1.0, 0.5), TrialPoint("b", 2.0, 0.8, "best"), TrialPoint("c", 2.0, 0.6)]
    drawn = str(front_plot(points, ("seconds", "Dice"), [0, 1]))
    assert "Front: a (1; 0.500), b (2; 0.800)" in drawn
    (line,) = re.findall(r'<polyline points="([^"]+)"', drawn)
    assert len(line.split()) == 2


def test_curves_of_pruned_trials_are_dashed():
    curves = [
        TrialCurve("trial 0", (1, 2), (0.5, 0.6), "best"),
        TrialCurve("trial 1", (1,), (0.2,), "pruned"),
        TrialCurve("trial 2", (1,), (math.nan,)),
    ]
    drawn = str(trial_curves(curves, "Dice", "epoch"))
    assert 'aria-label="Dice of 2 trials over the epoch"' in drawn
    assert drawn.count("<polyline") == 2
    assert drawn.count("stroke-dasharray") == 1
