import base64
from dataclasses import replace
from io import BytesIO

import numpy as np
from PIL import Image

from medseg.report.media import CaseView, FigureOptions, case_figures
from medseg.report.media.error_map import ERROR_COLORS, MISSED
from medseg.report.media.figures.case import png_data_uri
from medseg.report.palette import Legend

RNG = np.random.default_rng(0)


def _volume():
    reference = np.zeros((16, 20, 24), int)
    reference[4:12, 4:12, 4:12] = 1
    prediction = reference.copy()
    prediction[4:12, 4:12, 8:12] = 0
    image = RNG.normal(size=reference.shape)
    return CaseView("case <1>", (1, 1, 2), image, reference, prediction, Legend(("background", "organ")))


def _pixels(figure):
    return np.array(Image.open(BytesIO(base64.b64decode(figure.source.partition(",")[2]))).convert("RGB"))


def test_a_volume_has_three_rows_of_four_figures():
    figures = case_figures(_volume())
    assert figures.columns == ("image", "reference", "prediction", "errors")
    assert [row.split(",")[0] for row in figures.rows] == ["axial", "coronal", "sagittal"]
    assert len(figures.figures) == 12
    assert figures.legend == (("organ", "#56b4e9"), ("error: missed", "#c300c3"))


def test_alt_texts_give_areas():
    errors = next(one for one in case_figures(_volume()).figures if one.column == "errors")
    # the axial plane shows the 8 x 8 voxels of 1 mm² that are missed
    assert errors.alt.startswith("case <1>, axial, z = ")
    assert errors.alt.endswith("errors: missed 64 mm²")


def test_errors_have_their_exact_color():
    errors = next(one for one in case_figures(_volume()).figures if one.column == "errors")
    pixels = _pixels(errors)
    assert (pixels == ERROR_COLORS[MISSED]).all(axis=-1).mean() > 0.1


def test_aspect_ratio_is_physical():
    figures = case_figures(_volume(), FigureOptions(size=120, crop=False))
    coronal = next(one for one in figures.figures if one.row.startswith("coronal"))
    # 16 mm wide, 48 mm high
    assert (coronal.width, coronal.height) == (40, 120)


def test_the_size_is_bounded():
    large = case_figures(_volume())
    small = case_figures(_volume(), FigureOptions(max_bytes=80_000))
    assert small.size <= 80_000 < large.size


def test_html_is_escaped_and_has_no_inline_style():
    html = case_figures(_volume()).to_html()
    assert 'alt="case &lt;1&gt;, axial' in html
    assert "style=" not in html


def test_a_picture_keeps_its_colors_and_gets_the_contours_of_a_label():
    image = np.full((40, 40, 3), (200, 60, 30), np.uint8)
    label = np.zeros((40, 40), int)
    label[10:30, 10:30] = 1
    view = CaseView("a", (1, 1), image=image, prediction=label)
    figures = case_figures(view, FigureOptions(crop=False))
    assert figures.columns == ("image", "prediction")
    assert (_pixels(figures.figures[0]) == (200, 60, 30)).all()
    overlay = _pixels(figures.figures[1]).astype(int)
    blue = np.abs(overlay - (86, 180, 233)).max(axis=-1) <= 12
    ys, xs = np.nonzero(blue)
    # the square from 10 to 30 of 40 pixels lies at a quarter to three quarters of the figure
    assert abs(ys.min() / overlay.shape[0] - 0.25) < 0.02
    assert abs(xs.max() / overlay.shape[1] - 0.75) < 0.02
    assert not blue[overlay.shape[0] // 2, overlay.shape[1] // 2]


def test_label_maps_alone_are_drawn():
    assert case_figures(replace(_volume(), image=None)).columns == ("reference", "prediction", "errors")


def test_pictures_of_few_colors_are_stored_exactly():
    picture = RNG.integers(0, 6, (32, 32, 3)).astype(np.uint8) * 40  # 216 colors
    stored = Image.open(BytesIO(base64.b64decode(png_data_uri(picture).partition(",")[2])))
    assert stored.mode == "P"
    assert (np.array(stored.convert("RGB")) == picture).all()
