import numpy as np

from medseg.data.labels.schema import LabelSchema
from medseg.report.palette import Legend, label_palette, value_palette


def test_palette_begins_with_black_and_does_not_depend_on_its_length():
    assert label_palette(1).tolist() == [[0, 0, 0]]
    assert label_palette(0).shape == (0, 3)
    np.testing.assert_array_equal(label_palette(300)[:5], label_palette(5))
    assert label_palette(5).dtype == np.uint8


def test_palette_colors_are_distinct():
    assert len(np.unique(label_palette(256), axis=0)) == 256


def test_first_colors_stay_apart_when_red_and_green_look_alike():
    # a crude red-green blindness: red and green fall together into their mean
    colors = label_palette(8).astype(float)
    seen = np.stack([colors[:, :2].mean(axis=1), colors[:, 2]], axis=1)
    brightness = colors @ [0.299, 0.587, 0.114]
    for one in range(8):
        for other in range(one):
            apart = np.abs(seen[one] - seen[other]).max() + abs(brightness[one] - brightness[other])
            assert apart > 40


def test_a_legend_takes_the_labels_colors_and_else_its_own():
    labels = LabelSchema(names={"none": (0,), "car": (7,), "bus": (9,)}, colors={"bus": (0, 60, 100)})
    legend = Legend.of(labels)
    assert legend.palette(3).tolist() == [*label_palette(2).tolist(), [0, 60, 100]]
    assert legend.palette(2).tolist() == label_palette(2).tolist()
    assert (legend.first, legend.name(1), legend.name(5)) == (1, "car", "label 5")
    scene = Legend.of(labels.model_copy(update={"background": False, "colors": {}}))
    assert scene.first == 0
    assert scene.palette(3).tolist() == label_palette(4)[1:].tolist()


def test_values_are_drawn_as_their_labels_are():
    labels = LabelSchema(names={"none": (0,), "car": (7, 8), "bus": (300,)}, colors={"bus": (0, 60, 100)})
    palette = value_palette(labels)
    assert palette.shape == (256, 3)
    assert palette[7].tolist() == label_palette(2)[1].tolist()  # car is class 1
    assert [0, 60, 100] not in palette.tolist()  # no palette holds 300
    plain = LabelSchema(names={"none": (0,), "car": (1,)})
    np.testing.assert_array_equal(value_palette(plain), label_palette(256))
