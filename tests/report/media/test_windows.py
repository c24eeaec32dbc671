import numpy as np
import pytest

from medseg.report.media.case_view import CaseView
from medseg.report.media.windows import display_window, is_hounsfield


def _ct(inside):
    """A scan of air with a cube of value ``inside``, which is labeled, in soft tissue."""
    image = np.full((12, 12, 12), -1000, np.int16)
    image[2:10, 2:10, 2:10] = 40
    image[4:8, 4:8, 4:8] = inside
    label = np.zeros(image.shape, int)
    label[4:8, 4:8, 4:8] = 1
    return CaseView("a", (1, 1, 1), image=image, reference=label)


@pytest.mark.parametrize(("inside", "window"), [(60, (-160, 240)), (-800, (-1350, 150)), (700, (-500, 1300))])
def test_ct_gets_the_window_of_what_is_labeled(inside, window):
    assert display_window(_ct(inside)) == window


def test_other_images_use_percentiles_of_what_is_not_empty():
    image = np.zeros((20, 20, 20))
    image[:, :, 0] = np.arange(400).reshape(20, 20) + 100
    low, high = display_window(CaseView("a", (1, 1, 1), image=image))
    # 5% of the voxels have values from 100 to 499; the rest is 0 and does not count
    assert low == pytest.approx(100 + 0.01 * 399)
    assert high == pytest.approx(100 + 0.995 * 399)


def test_an_image_of_two_values_is_black_and_white():
    assert display_window(CaseView("a", (1, 1, 1), image=np.eye(3)[None] * 7)) == (0, 7)


def test_declared_modality_decides():
    values = np.linspace(-1000, 1000, 1000).reshape(10, 10, 10)
    assert is_hounsfield(values)
    assert not is_hounsfield(values, "MR")
    assert is_hounsfield(values + 5000, "CT")


def test_pictures_are_drawn_unchanged():
    assert display_window(CaseView("a", (1, 1), image=np.ones((4, 4, 3), np.uint8))) == (0, 255)
