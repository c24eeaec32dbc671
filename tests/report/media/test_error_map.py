import numpy as np

from medseg.report.media.case_view import CaseView
from medseg.report.media.error_map import CONFUSED, EXTRA, MISSED, error_map, labeled_box, largest_error
from medseg.report.palette import Legend


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
