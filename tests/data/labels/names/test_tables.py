from typing import get_args

import pytest

from medseg.data.labels.names.tables import TableName, label_table

UNUSED = {"street sign", "hat", "shoe", "eye glasses", "plate", "mirror", "window", "desk", "door", "blender"}
SHARED = {"ade20k": {"road", "skyscraper"}, "coco": UNUSED, "coco_stuff": {"cardboard", "floor-tile"}}
"""Labels that have one color in the published tables."""


@pytest.mark.parametrize(
    ("name", "length", "first", "last"),
    [
        ("voc", 21, ("background", 0), ("tvmonitor", 20)),
        ("cityscapes", 19, ("road", 7), ("bicycle", 33)),
        ("ade20k", 150, ("wall", 1), ("flag", 150)),
        ("coco", 91, ("background", 0), ("toothbrush", 90)),
        ("coco_stuff", 171, ("person", 0), ("wood", 181)),
    ],
)
def test_lengths_and_ends(name, length, first, last):
    table = label_table(name)
    pairs = list(zip(table.names, table.values, strict=True))
    assert (len(pairs), pairs[0], pairs[-1]) == (length, first, last)
    assert table.background == (name in ("voc", "coco"))


@pytest.mark.parametrize("name", get_args(TableName))
def test_names_values_and_colors_are_unique(name):
    table = label_table(name)
    assert len(set(table.names)) == len(set(table.values)) == len(table.names)
    assert list(table.values) == sorted(table.values)
    of_color: dict[tuple[int, ...], set[str]] = {}
    for label, color in zip(table.names, table.colors, strict=True):
        of_color.setdefault(color, set()).add(label)
    shared = [names for names in of_color.values() if len(names) > 1]
    assert shared == ([SHARED[name]] if name in SHARED else [])
    assert all(name == name.strip() and name for name in table.names)


def test_voc_colors_are_computed_from_the_bits_of_values():
    # bit 3k of a value is the (7 - k)th of red, bit 3k + 1 of green, bit 3k + 2 of blue
    for value, color in zip(label_table("voc").values, label_table("voc").colors, strict=True):
        bits = [[value >> (3 * k + channel) & 1 for k in range(8)] for channel in range(3)]
        assert color == tuple(sum(bit << (7 - k) for k, bit in enumerate(own)) for own in bits)
    assert label_table("voc").colors[15] == (192, 128, 128)  # person: 15 = 0b001111


@pytest.mark.parametrize(
    ("name", "label", "value", "color"),
    [
        ("cityscapes", "road", 7, (128, 64, 128)),
        ("cityscapes", "sky", 23, (70, 130, 180)),
        ("ade20k", "wall", 1, (120, 120, 120)),
        ("ade20k", "sky", 3, (6, 230, 230)),
        ("ade20k", "television", 90, (0, 255, 194)),
        ("coco_stuff", "toothbrush", 89, (191, 162, 208)),  # id 90
        ("coco_stuff", "banner", 91, (54, 178, 118)),  # id 92, the first of stuff: step 40 of jet, see below
    ],
)
def test_entries_of_the_published_tables(name, label, value, color):
    labels = label_table(name).schema()
    assert (labels.names[label], labels.colors[label]) == ((value,), color)


def test_coco_stuff_leaves_out_the_eleven_classes_without_annotations():
    removed = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91}  # ids: street sign, hat, shoe, …
    assert {value + 1 for value in label_table("coco_stuff").values} == set(range(1, 183)) - removed


def test_colors_of_stuff_are_those_of_its_authors():
    # jet of 91 steps at 0.7 brightness; half way, step 45, it is (0.484, 1, 0.484): 0.7 * 255 = 178.5 of green
    table = label_table("coco_stuff")
    stuff = [c for c, value in zip(table.colors, table.values, strict=True) if value > 90]
    assert len(stuff) == 91
    assert max(max(color) for color in stuff) == 178
    assert (0, 0, 89) in stuff  # 0.7 * 255 * 0.5: jet begins in dark blue
    assert (89, 0, 0) in stuff  # and ends in dark red
