"""Pictures of objects."""

import numpy as np

from medseg.instances.result import Instances
from medseg.report.media.figures.objects import draw_instances
from medseg.report.palette import Legend

LEGEND = Legend(("background", "cell", "bead"), {2: (0, 0, 255)})


def squares(count, classes, size=40):
    label_map = np.zeros((size, 20 * count), int)
    for k in range(count):
        label_map[20:30, 20 * k + 5 : 20 * k + 15] = k + 1
    return Instances.from_label_map(label_map, np.array(classes), np.linspace(0.9, 0.5, count))


def test_masks_boxes_and_names_are_drawn():
    found = squares(2, [1, 2], size=800)
    image = np.full(found.shape, 100, np.uint8)
    picture = draw_instances(image, found, LEGEND)
    assert picture.shape == (800, 40, 3)
    assert picture[20, 25].tolist() == [0, 0, 255]  # the box of the second one, in the color of its class
    assert picture[25, 30].tolist() == [60, 60, 162]  # 0.6 · 100 + 0.4 · color
    assert (picture[10:20, 5:15] != 100).any()  # the name above the box
    assert picture[35, 3].tolist() == [100, 100, 100]


def test_names_that_would_cover_the_picture_are_left_out():
    picture = draw_instances(np.zeros((40, 40), np.uint8), squares(2, [1, 2]), LEGEND)
    assert not picture[:20].any()
    assert picture[20, 25].any()


def test_objects_of_one_class_have_different_colors_and_many_have_no_names():
    found = squares(61, [1] * 61)
    picture = draw_instances(np.zeros(found.shape, np.uint8), found, LEGEND)
    assert picture[25, 10].tolist() != picture[25, 30].tolist()
    assert not picture[:20].any()


def test_no_objects():
    found = Instances.from_label_map(np.zeros((4, 5), int))
    assert not draw_instances(np.zeros((4, 5, 3), np.uint8), found, LEGEND).any()
