import base64
import io

import numpy as np
import pytest
from PIL import Image

from medseg.report.media.case_view import CaseView
from medseg.report.media.figures.case import FigureOptions
from medseg.report.media.figures.methods import method_figures
from medseg.report.palette import Legend

WHOLE = FigureOptions(size=120, crop=False)


def ball(shape, center, radius):
    grid = np.ogrid[tuple(slice(0, n) for n in shape)]
    return (sum((g - c) ** 2 for g, c in zip(grid, center, strict=True)) < radius**2).astype(int)


def views(predictions, reference, spacing=(1.0, 1.0, 1.0)):
    image = np.full(reference.shape, 100, np.int16)
    legend = Legend(("background", "organ"))
    return {name: CaseView("scan", spacing, image, reference, one, legend) for name, one in predictions.items()}


def pixels(figure):
    content = base64.b64decode(figure.source.partition(",")[2])
    return np.array(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


SHAPE = (30, 30, 30)
ORGAN = ball(SHAPE, (15, 15, 15), 8)


def test_the_plane_passes_through_the_largest_difference_of_the_methods():
    extra = ORGAN | ball(SHAPE, (15, 15, 25), 3)  # both have it: no difference
    different = extra | ball(SHAPE, (5, 5, 4), 2)
    figures = method_figures(views({"old": extra, "new": different}, ORGAN), options=WHOLE)
    assert figures.columns == ("image", "reference", "old", "new")
    assert figures.rows == ("axial, z = 4",)
    assert "largest difference between the methods" in figures.caption


def test_the_largest_error_of_one_method_can_be_shown():
    wrong = ORGAN | ball(SHAPE, (15, 15, 26), 3)
    missed = ORGAN * 0
    figures = method_figures(views({"old": missed, "new": wrong}, ORGAN), "new", WHOLE)
    assert figures.rows == ("axial, z = 26",)
    assert "largest error of new" in figures.caption
    assert "scan, axial, z = 26: old: no label in this plane" in [one.alt for one in figures.figures]


def test_methods_that_agree_show_their_common_error():
    same = ORGAN | ball(SHAPE, (15, 15, 26), 3)
    figures = method_figures(views({"old": same, "new": same}, ORGAN), options=WHOLE)
    assert figures.rows == ("axial, z = 26",)
    assert "which the methods share" in figures.caption


def test_thick_slices_are_shown_as_they_were_acquired():
    other = ORGAN | ball(SHAPE, (22, 15, 15), 4)
    figures = method_figures(views({"old": ORGAN, "new": other}, ORGAN, (4.0, 1.0, 1.0)), options=WHOLE)
    assert figures.rows[0].startswith("sagittal, x = 2")


def test_regions_that_are_not_annotated_do_not_differ():
    reference = ORGAN.copy()
    reference[:, :, 20:] = -1
    other = ORGAN | ball(SHAPE, (15, 15, 26), 3) | ball(SHAPE, (15, 15, 3), 2)
    figures = method_figures(views({"old": ORGAN, "new": other}, reference), options=WHOLE)
    assert figures.rows == ("axial, z = 3",)


def test_the_reference_is_a_white_line_and_the_method_a_colored_one():
    reference, prediction = np.zeros((40, 40), int), np.zeros((40, 40), int)
    reference[10:30, 10:30] = 1
    prediction[10:30, 20:38] = 1
    image = np.full((40, 40), 100, np.uint8)
    view = CaseView("a", (1.0, 1.0), image, reference, prediction, Legend(("background", "organ")))
    figures = method_figures({"new": view}, options=FigureOptions(size=160, crop=False))  # 240 pixels
    picture = pixels(figures.figures[-1])
    assert picture[120, 57:63].min(axis=1).max() > 220  # the left edge of the reference is white
    blue = picture[120, 225:231]  # the right edge of the prediction is sky blue
    assert (blue[:, 2] - blue[:, 0]).max() > 100
    assert picture[120, 90].tolist() == pytest.approx([100] * 3, abs=4)  # areas are not filled
    assert figures.legend == (("organ", "#56b4e9"),)


def test_pictures_stay_below_the_limit_of_bytes():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (300, 300, 3), np.uint8)
    maps = {f"method {i}": np.roll(ball((300, 300), (150, 150), 60), i, 0) for i in range(4)}
    own = {name: CaseView("a", (1.0, 1.0), image, maps["method 0"], one) for name, one in maps.items()}
    figures = method_figures(own, options=FigureOptions(max_bytes=150_000))
    assert figures.size <= 150_000
    assert len(figures.figures) == 6
