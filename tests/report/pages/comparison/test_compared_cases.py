from pathlib import Path

import numpy as np
from conftest import write_volume

from medseg.report.pages.case_sections import DrawingLimits
from medseg.report.pages.comparison.cases import MethodFiles, NotableCase, draw_compared_cases, notable_cases
from medseg.report.pages.comparison.methods import ComparedMethods


def compared(better="higher", missed=None, **scores):
    cases = list("abcdefgh")[: len(next(iter(scores.values())))]
    content = {
        "methods": list(scores),
        "labels": ["organ"],
        "cases": cases,
        "metric": {"name": "dice", "title": "Dice", "better": better},
        "scores": [[[value] for value in own] for own in scores.values()],
        "results": [],
        "missed_structures": missed or {},
    }
    return ComparedMethods(content)


def test_of_two_methods_either_is_better_by_most_and_the_best_is_worst():
    # new - old: +0.3, -0.1, +0.1, 0, 0; new is best, and worst in c and d
    found = notable_cases(compared(old=[0.5, 0.9, 0.2, 0.4, 0.9], new=[0.8, 0.8, 0.3, 0.4, 0.9]), most=2)
    assert found == [
        NotableCase("b", ("old is better by most",)),
        NotableCase("a", ("new is better by most",)),
        NotableCase("c", ("new is better by most", "new is worst here")),
        NotableCase("d", ("new is worst here",), "new"),
    ]


def test_low_distances_are_good():
    found = notable_cases(compared("lower", old=[1.0, 5.0], new=[2.0, 3.0]), most=1)
    assert found == [
        NotableCase("a", ("old is better by most",)),
        NotableCase("b", ("new is better by most", "new is worst here")),
    ]


def test_of_several_methods_the_range_decides_and_missing_scores_do_not():
    nan = float("nan")
    found = notable_cases(compared(a=[0.9, 0.5, nan], b=[0.8, 0.9, nan], c=[0.7, 0.8, nan]), most=1)
    assert found == [
        NotableCase("b", ("the methods differ most",)),
        NotableCase("a", ("b is worst here",), "b"),
    ]


def test_missed_structures_are_shown_for_every_label_in_turn():
    missed = {"old": {"structures": 9, "missed": [["a", "x"], ["b", "x"], ["c", "x"], ["d", "y"]]}}
    found = notable_cases(compared(old=[0.5] * 5, new=[0.5] * 5, missed=missed), most=2)
    assert found[-2:] == [  # a is also the worst of old
        NotableCase("b", ("old is worst here", "old misses x"), "old"),
        NotableCase("d", ("old misses y",), "old"),
    ]
    assert found[0] == NotableCase("a", ("old is worst here", "old misses x"), "old")


def test_cases_are_drawn_with_the_methods_that_have_a_result(tmp_path):
    organ = np.zeros((8, 8, 8), np.uint8)
    organ[2:6, 2:6, 2:6] = 1
    write_volume(tmp_path / "reference.nii.gz", organ)
    write_volume(tmp_path / "old.nii.gz", np.roll(organ, 1, axis=0))
    (tmp_path / "broken.nii.gz").write_bytes(b"nothing")
    reference = tmp_path / "reference.nii.gz"
    files = {
        "a": MethodFiles(None, reference, {"old": tmp_path / "old.nii.gz"}),
        "b": MethodFiles(None, reference, {"new": tmp_path / "broken.nii.gz"}),
        "c": MethodFiles(None, reference, {}),
    }
    sections = draw_compared_cases([NotableCase(case, ("differs",)) for case in "abcd"], files)
    assert list(sections.pictures) == ["a", "b"]
    assert sections.pictures["a"].count("<img") == 2  # reference and old
    assert "This case cannot be drawn" in sections.pictures["b"]
    assert str(Path(tmp_path)) not in sections.pictures["b"]


def test_the_viewer_holds_the_first_cases_as_each_method_segmented_them(tmp_path):
    organ = np.zeros((8, 8, 8), np.uint8)
    organ[2:6, 2:6, 2:6] = 1
    paths = {
        name: write_volume(tmp_path / f"{name}.nii.gz", np.roll(organ, shift, axis=0))
        for name, shift in (("reference", 0), ("old", 2), ("new", 1))
    }
    own = MethodFiles(None, paths["reference"], {name: paths[name] for name in ("old", "new")})
    cases = [NotableCase(case, ("differs",)) for case in "abc"]
    sections = draw_compared_cases(cases, dict.fromkeys("abc", own), limits=DrawingLimits(volumes=2))
    assert "<option>a, old</option><option>a, new</option><option>b, old</option><option>b, new</option>" in (
        sections.viewer
    )
    assert 'data-show-volume="a, new"' in sections.pictures["a"]
    assert "data-show-volume" not in sections.pictures["c"]
    assert sections.scripts
