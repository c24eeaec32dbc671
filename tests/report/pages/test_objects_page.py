"""The report of a comparison of objects: figures of the tables, pictures with outlines, links."""

import json
import re

import numpy as np
import pytest
from conftest import write_picture, write_volume

from medseg.cli.main import run
from medseg.evaluation.objects import evaluate_objects, write_objects_report
from medseg.geometry import Grid
from medseg.report.media.case_view import view_of_objects
from medseg.report.media.error_map import ERROR_COLORS, EXTRA, MISSED
from medseg.report.media.figures.object_matches import FOUND_COLOR, MatchedObjects, draw_matches, object_figures
from medseg.report.media.planes import cut_plane


def cells(numbers):
    """Return a label map (32, 32) with the square of 6 x 6 pixels of each number."""
    label_map = np.zeros((32, 32), np.uint16)
    for number in numbers:
        row, column = divmod(number - 1, 4)
        label_map[8 * row + 1 : 8 * row + 7, 8 * column + 1 : 8 * column + 7] = number
    return label_map


@pytest.fixture
def folders(tmp_path):
    """Case c finds nothing; b finds one of two and a false one; a is right; d has no prediction."""
    cases = {"a": ([1, 2], [1, 2]), "b": ([1, 2], [1, 7]), "c": ([1], [9]), "d": ([1], None)}
    for case, (reference, found) in cases.items():
        write_picture(tmp_path / "labels" / f"{case}.png", cells(reference))
        write_picture(tmp_path / "images" / f"{case}.png", np.full((32, 32), 128, np.uint8))
        if found is not None:
            write_picture(tmp_path / "found" / f"{case}.png", cells(found))
    return tmp_path


def report(folders, *options):
    out = folders / "out"
    asked = ["evaluate", str(folders / "found"), str(folders / "labels"), "--objects", "--output", str(out)]
    asked.append("--missing=worst")
    assert run([*asked, *options]) == 0
    return out / "report.html"


def test_the_verdict_counts_objects_and_names_problems(folders):
    page = report(folders).read_text()
    words = re.sub(r"<[^>]+>", "", page[page.index('class="verdict"') : page.index("</section>")])
    # 3 of 6 are found; 5 are predicted: F1 = 6 / 11
    assert "F1 is 0.545 at IoU 0.5: 3 of 6 objects were found, 3 missed" in words
    assert "2 of 5 predicted ones are false" in words
    assert "1 case was never predicted; all objects there count as missed: d" in words
    assert str(folders) not in page


def test_all_scores_and_cases_are_on_the_page(folders):
    page = report(folders).read_text()
    scores = json.loads((folders / "out" / "objects.json").read_text())["scores"]
    for key in ("f1_50", "f1_75", "f1_90", "pooled_50", "pq", "aji_plus"):
        assert f'<data value="{scores[key]:.9g}">' in page
    table = page[page.index("Scores of every case") :]
    rows = re.findall(r'<th scope="row">(?:<a [^>]*>)?(\w)(?:</a>)?</th><td>([^<]*)', table)
    expected = [("c", "nothing found"), ("d", "never predicted"), ("b", "scored"), ("a", "scored")]
    assert sorted(rows[:2]) == expected[:2]
    assert rows[2:] == expected[2:]


def test_worst_and_best_cases_have_pictures(folders):
    page = report(folders, "--images", str(folders / "images")).read_text()
    assert page.count('class="case"') == 4
    assert "b: outlines of 1 found, 1 missed and 1 false objects" in page
    assert "b: image" in page
    assert 'href="#case-b"' in page
    assert "cannot be drawn" not in page
    assert "b: image" not in report(folders).read_text()  # without --images


def test_a_page_of_another_program_is_not_replaced(folders, capsys):
    out = folders / "out"
    out.mkdir()
    (out / "report.html").write_text("<html>thesis</html>")
    asked = ["evaluate", str(folders / "found"), str(folders / "labels"), "--objects", "--output", str(out)]
    asked.append("--missing=worst")
    assert run(asked) == 3
    assert (out / "report.html").read_text() == "<html>thesis</html>"
    assert not (out / "objects.csv").exists()
    assert run([*asked, "--no-report"]) == 0


def test_outlines_have_the_color_of_their_kind():
    reference, predicted = cells([1, 2]), cells([1, 7])
    objects = MatchedObjects.of(reference, predicted, 0.5)
    view = view_of_objects("a", Grid.picture(32, 32), (objects.reference, objects.predicted))
    plane = cut_plane(view, None, (0, 255), (slice(0, 32), slice(0, 32)))
    picture = draw_matches(plane, objects, (32, 32))
    # the outer pixels of the squares, and the dark line around them
    assert tuple(picture[1, 1]) == FOUND_COLOR
    assert tuple(picture[1, 9]) == ERROR_COLORS[MISSED]
    assert tuple(picture[9, 17]) == ERROR_COLORS[EXTRA]
    assert tuple(picture[0, 1]) == (20, 20, 20)
    assert tuple(picture[3, 3]) == (0, 0, 0)
    assert tuple(draw_matches(plane, objects, (64, 64))[3, 3]) == FOUND_COLOR  # wider where it is enlarged


def test_volumes_are_shown_through_a_wrong_object(tmp_path):
    volume = np.zeros((24, 24, 24), np.uint16)
    volume[2:8, 2:8, 2:8], volume[14:20, 14:20, 14:20] = 1, 2
    write_volume(tmp_path / "labels" / "a.nii.gz", volume, np.eye(4))
    write_volume(tmp_path / "found" / "a.nii.gz", volume * (volume == 1), np.eye(4))
    found = evaluate_objects(tmp_path / "found", tmp_path / "labels")
    write_objects_report(tmp_path / "report.html", found)
    page = (tmp_path / "report.html").read_text()
    assert "a, axial, z = 16: outlines of 0 found, 1 missed and 0 false objects" in page


def test_the_size_of_pictures_is_bounded():
    noise = np.random.default_rng(0).integers(0, 50, (200, 200))
    objects = MatchedObjects.of(noise, noise[::-1], 0.5)
    view = view_of_objects("a", Grid.picture(200, 200), (objects.reference, objects.predicted))
    assert object_figures(view, objects, 40_000).size <= 40_000
