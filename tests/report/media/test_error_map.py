import json
import re
from importlib.resources import files

import numpy as np
import pytest

from medseg.report.media.case_view import CaseView
from medseg.report.media.error_map import (
    CONFUSED,
    ERROR_COLORS,
    EXTRA,
    MISSED,
    error_map,
    labeled_box,
    largest_error,
)
from medseg.report.palette import Legend, label_palette

_COLOR_VISION = {  # linear RGB as seen, severity 1.0 of Machado, Oliveira and Fernandes (2009)
    "common": np.eye(3),
    "protanopia": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
    "deuteranopia": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
    "tritanopia": [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9309, 0.1476], [0.0047, 0.6914, 0.3039]],
}


def _view(reference, prediction, legend=None):
    reference, prediction = np.array([reference]), np.array([prediction])
    return CaseView("a", (1, 1), reference=reference, prediction=prediction, legend=legend or Legend())


def test_kinds_of_errors():
    # not annotated (-1) is no error, whatever is predicted there
    errors = error_map(_view([0, 1, 1, 2, -1, 2], [1, 0, 1, 1, 1, 2]))
    assert errors.tolist() == [[EXTRA, MISSED, 0, CONFUSED, 0, 0]]


def test_scenes_without_background_have_other_labels_only():
    assert error_map(_view([0, 1, 1], [1, 1, 0], Legend(background=False))).tolist() == [
        [CONFUSED, 0, CONFUSED]
    ]


def test_one_map_has_no_errors():
    assert error_map(CaseView("a", (1, 1), reference=np.zeros((1, 2), int))) is None


def test_the_largest_error_is_found_at_its_center():
    errors = np.zeros((20, 20, 20), np.uint8)
    errors[1:3, 1:3, 1:3] = MISSED  # 8 voxels
    errors[10:15, 8:13, 4:9] = EXTRA  # 125 voxels, center (12, 10, 6)
    errors[10:15, 8:13, 9:11] = MISSED  # beside it, but of another kind
    assert largest_error(errors, (1, 1, 1)) == (12, 10, 6)
    assert largest_error(np.zeros((2, 2, 2), np.uint8), (1, 1, 1)) is None


def test_large_errors_are_searched_at_a_lower_resolution(monkeypatch):
    monkeypatch.setattr("medseg.report.media.error_map._MOST_VOXELS", 2000)
    errors = np.zeros((40, 40, 20), np.uint8)
    errors[5:35, 5:35, 4:16] = MISSED
    center = largest_error(errors, (1, 1, 1))
    assert errors[center] == MISSED
    assert abs(center[2] - 9.5) <= 3


def test_the_box_of_labels_has_a_margin_of_at_least_four_voxels():
    label = np.zeros((40, 40, 40), int)
    label[20, 20, 20] = 1
    view = CaseView("a", (0.5, 1, 20), reference=label)
    # 5 mm are 10 voxels of 0.5 mm, 5 of 1 mm, and 4 voxels at least
    assert labeled_box(view, 5.0) == (slice(10, 31), slice(15, 26), slice(16, 25))


def _oklab(colors, seen):
    """Return colors (N, 3) 0..255 in Oklab (Ottosson 2020), in which a distance of 0.02 is just visible."""
    colors = np.asarray(colors) / 255
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.transpose(seen), 0, 1)
    cones = [[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]
    lab = [[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]
    return np.cbrt(linear @ np.transpose(cones)) @ np.transpose(lab)


def _smallest_distance(colors, others, seen=_COLOR_VISION["common"]):
    return np.linalg.norm(_oklab(colors, seen)[:, None] - _oklab(others, seen), axis=-1).min()


def test_no_label_has_the_color_of_an_error():
    errors = list(ERROR_COLORS.values())
    assert _smallest_distance(errors, label_palette(256)[1:]) > 0.06  # three times what is just visible


@pytest.mark.parametrize("seen", _COLOR_VISION.values(), ids=_COLOR_VISION)
def test_errors_are_distinct_for_every_kind_of_color_vision(seen):
    errors = list(ERROR_COLORS.values())
    for index, color in enumerate(errors):
        assert _smallest_distance([color], errors[:index] + errors[index + 1 :], seen) > 0.12
    assert _smallest_distance(errors, label_palette(8)[1:], seen) > 0.06
    grays = [[value] * 3 for value in range(154)]  # of the dimmed image below the errors
    assert _smallest_distance(errors, grays, seen) > 0.06


def test_the_viewer_has_the_same_colors():
    script = files("medseg.report.media").joinpath("static", "slices.js").read_text(encoding="utf-8")
    shown = json.loads(re.search(r"const ERRORS = (\[.*\]);", script)[1])
    assert shown[1:] == [list(ERROR_COLORS[kind]) for kind in (MISSED, EXTRA, CONFUSED)]
