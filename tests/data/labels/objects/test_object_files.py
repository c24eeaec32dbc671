"""Datasets with a file for each object, and with GeoJSON."""

import json

import numpy as np
import pytest
from conftest import write_picture

from medseg.data.curation.check import check_dataset
from medseg.data.io.multichannel import read_image
from medseg.data.labels.label_plan import LabelDeclarations, plan_labels
from medseg.data.labels.objects.files import join_object_masks
from medseg.data.labels.schema import LabelSchema
from medseg.data.layouts import find_dataset
from medseg.data.options import DataConfig
from medseg.errors import DataError


def read(root, instances="keep", case=0):
    """Read the labels of a case of a dataset."""
    listing = find_dataset(root)
    plan = plan_labels(listing.checked().cases, LabelDeclarations(layout=listing.labels, instances=instances))
    one = plan.cases[case]
    return plan.reader.read(one, read_image(one)), plan.schema


@pytest.fixture
def dsb(tmp_path):
    """Two cases as in the Data Science Bowl 2018: CASE/images/CASE.png, CASE/masks/OBJECT.png."""
    for case in "ab":
        write_picture(tmp_path / case / "images" / f"{case}.png", np.zeros((12, 16), np.uint8))
        for number, box in enumerate([(1, 1, 5), (1, 6, 3), (8, 8, 3)]):
            row, column, side = box
            mask = np.zeros((12, 16), np.uint8)
            mask[row : row + side, column : column + side] = 255
            write_picture(tmp_path / case / "masks" / f"{case}{number}f00.png", mask)
    return tmp_path


def test_each_file_is_an_object(dsb):
    label_map, schema = read(dsb)
    assert list(schema.names) == ["background", "object"]
    assert np.bincount(label_map.objects.ravel())[1:].tolist() == [25, 9, 9]
    assert np.array_equal(label_map.objects > 0, label_map.values == 1)
    assert find_dataset(dsb).layout == "CASE/images/ and CASE/masks/"


def test_without_instances_they_are_the_foreground(dsb):
    label_map, _ = read(dsb, None)
    assert label_map.objects is None
    assert np.bincount(label_map.values.ravel()).tolist() == [12 * 16 - 43, 43]


def test_such_a_dataset_is_checked(dsb):
    report = check_dataset(dsb, DataConfig(instances="keep", duplicates="group"))
    assert not report.problems
    assert any("6 objects in 2 cases" in one.message for one in report.findings)


def test_of_overlapping_masks_the_smaller_is_kept():
    masks = [np.array([[1, 1, 0, 0]]), np.array([[0, 1, 1, 1]]), np.array([[0, 0, 1, 0]])]
    values, objects = join_object_masks(masks, 4, (1, 4))
    assert objects.tolist() == [[1, 1, 3, 2]]
    assert values.tolist() == [[4, 4, 4, 4]]


@pytest.fixture
def qupath(tmp_path):
    """A picture with a square and a smaller one on it, of two classes."""
    write_picture(tmp_path / "images" / "a.png", np.zeros((12, 16), np.uint8))
    boxes = {"tumor": (1, 1, 9), "immune": (3, 3, 5)}
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[[a, b], [c, b], [c, c], [a, c], [a, b]]]},
            "properties": {"classification": {"name": name}},
        }
        for name, (a, b, c) in boxes.items()
    ]
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": features})
    )
    return tmp_path


def test_polygons_of_several_classes(qupath):
    label_map, schema = read(qupath)
    assert list(schema.names) == ["background", "immune", "tumor"]
    assert np.bincount(label_map.values.ravel())[1:].tolist() == [4, 60]
    assert np.bincount(label_map.objects.ravel())[1:].tolist() == [60, 4]
    assert read(qupath, None)[0].objects is None


def test_a_class_that_is_not_declared_is_an_error(qupath):
    listing = find_dataset(qupath)
    declared = LabelDeclarations(
        layout=LabelSchema(names={"background": (0,), "tumor": (1,)}), instances="keep"
    )
    plan = plan_labels(listing.cases, declared)
    with pytest.raises(DataError, match="'immune', which is not among the labels"):
        plan.reader.read(plan.cases[0], read_image(plan.cases[0]))
