import numpy as np

from medseg.report.media.case_view import CaseView
from medseg.report.media.planes import display_planes


def _view():
    reference = np.zeros((10, 40, 30), int)
    reference[2:6, 3:9, 4:12] = 1
    prediction = reference.copy()
    prediction[2:6, 3:9, 9:12] = 0  # missed: the center of 4 x 6 x 3 voxels is near (4, 6, 10)
    return CaseView("a", (3, 1, 1), image=np.zeros((10, 40, 30)), reference=reference, prediction=prediction)


def test_volumes_are_shown_through_the_largest_error():
    axial, coronal, sagittal = display_planes(_view(), crop=False)
    assert axial.title == "axial, z = 10"
    assert coronal.title[:11] == "coronal, y "
    assert sagittal.title[:12] == "sagittal, x "
    # rows and columns of an axial plane are y and x, both flipped; 3 mm along x
    assert axial.image.shape == (40, 10)
    assert axial.pixel_mm == (1, 3)
    assert axial.size_mm == (40, 30)
    assert axial.errors.sum() == 4 * 6
    assert axial.reference[40 - 9 : 40 - 3, 10 - 6 : 10 - 2].all()


def test_planes_are_cropped_to_the_labels():
    axial, *_ = display_planes(_view(), crop=True)
    # along y rows 3 to 8 and a margin: a quarter of 30 mm, the extent along x and its margin
    assert axial.image.shape == (3 + 6 + 8, 10)
    assert axial.reference.sum() == 4 * 6
    assert axial.corner[0] > 0


def test_without_a_prediction_the_planes_show_the_most_labels():
    view = _view()
    axial, *_ = display_planes(CaseView("a", view.spacing, reference=view.reference))
    assert axial.title == "axial, z = 11"  # of 4 to 11, all equally large, the one nearest to the middle
    assert axial.errors is None
    assert not axial.image.any()
