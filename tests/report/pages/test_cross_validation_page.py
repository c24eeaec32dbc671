import re

import pytest

from medseg.report.pages.cross_validation import (
    CrossValidationPage,
    unbiased_dice,
    write_cross_validation_page,
)

ROWS = [
    {"case": "x", "fold": 0, "label": "1", "name": "liver", "status": "scored", "dice": 0.9},
    {"case": "y", "fold": 0, "label": "1", "name": "liver", "status": "scored", "dice": 0.8},
    {"case": "z", "fold": 1, "label": "1", "name": "liver", "status": "scored", "dice": 0.6},
]


def fold(name, cases, dice, low, high):
    return {"fold": name, "cases": cases, "dice": dice, "ci_low": low, "ci_high": high, "dice:liver": dice}


SUMMARY = {
    "folds": [
        fold("0", 2, 0.85, 0.8, 0.9),
        fold("1", 1, 0.6, float("nan"), float("nan")),
        fold("all", 3, 0.7667, 0.6, 0.9),
    ],
    "settings": [{"label": "liver", "setting": "largest", "before": 0.7667, "after": 0.79, "unbiased": 0.78}],
    "test": {
        "ensemble": [0.88, 0.8, 0.92],
        "members": [0.86, 0.84],
        "gain": [0.03, 0.01, 0.05],
        "cases": 4,
        "labels": {"liver": 0.88},
    },
    "failed": [],
}
TRAININGS = [{"fold": 0, "minutes": 3.25, "cases": 1, "report": "folds/fold_0/run/report.html"}]


def write(tmp_path, **changes):
    page = CrossValidationPage("liver", ROWS, SUMMARY | changes, TRAININGS, "out_of_fold/metrics/report.html")
    write_cross_validation_page(tmp_path / "report.html", page)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def verdict(page):
    """The text of the verdict, without markup."""
    part = re.search(r'<section class="verdict".*?</section>', page, re.DOTALL)[0]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", part))


def test_the_verdict_in_words(tmp_path):
    text = verdict(write(tmp_path))
    assert "Mean Dice is 0.767 (95% interval 0.600 to 0.900) over 3 cases" in text
    assert "The folds range from 0.600 (fold 1) to 0.850 (fold 0)." in text
    assert "On 4 test cases of no fold, the ensemble of all folds has a mean Dice of 0.880" in text
    assert "+0.0300 compared with the mean of its members (+0.0100 to +0.0500)" in text
    assert "Chosen for the model file: liver: largest." in text
    assert "chosen on the other folds, mean Dice is 0.780." in text


def test_the_dice_of_a_chosen_threshold_is_that_of_the_other_folds():
    def row(label, setting, before, unbiased):
        return {"label": label, "setting": setting, "before": before, "unbiased": unbiased}

    settings = [
        row("core", "threshold 0.4", 0.70, 0.71), row("edge", "none", 0.60, 0.60),
        row("core", "none", 0.74, 0.74), row("edge", "largest", 0.60, 0.65),
    ]  # fmt: skip
    # 0.74 is the Dice with the threshold that was chosen on all folds
    assert unbiased_dice(settings) == pytest.approx({"core": 0.71, "edge": 0.65})
    settings[2] = row("core", "largest", 0.74, 0.76)
    assert unbiased_dice(settings)["core"] == pytest.approx(0.71 + 0.02)


def test_test_time_augmentation_chosen_on_the_same_cases_is_named(tmp_path):
    words = "had the best Dice on these same cases, so the Dice is slightly too good."
    assert words not in verdict(write(tmp_path))
    assert words in verdict(write(tmp_path, tta={"flips": [0], "scales": [1.0]}))


def test_every_training_and_the_evaluation_are_linked(tmp_path):
    page = write(tmp_path)
    assert '<a href="folds/fold_0/run/report.html">fold 0</a>' in page
    assert '<a href="out_of_fold/metrics/report.html">' in page
    assert "mean of the folds" in page


def test_failed_folds_are_named_and_there_is_no_ensemble(tmp_path):
    page = write(tmp_path, failed=["fold 1: out of memory"], test=None, settings=[])
    assert "1 fold failed, so there is no ensemble" in verdict(page)
    assert "mean of the folds" not in page


def test_a_study_in_which_every_fold_failed_has_a_page(tmp_path):
    empty = {"folds": [], "settings": [], "test": None, "failed": ["fold 0: no", "fold 1: no"]}
    write_cross_validation_page(tmp_path / "report.html", CrossValidationPage("liver", [], empty))
    assert "2 folds failed" in verdict((tmp_path / "report.html").read_text(encoding="utf-8"))
