"""Objects from GeoJSON, as QuPath exports them."""

import json

import numpy as np
import pytest

from medseg.data.io.geojson import read_geojson_names, read_geojson_objects
from medseg.errors import DataError
from medseg.report.media.contours import label_polygons


def feature(rings, name=None, kind="Polygon"):
    properties = {} if name is None else {"classification": {"name": name, "color": [1, 2, 3]}}
    return {
        "type": "Feature", "geometry": {"type": kind, "coordinates": rings}, "properties": properties
    }  # fmt: skip


SQUARE = [[1, 1], [5, 1], [5, 4], [1, 4], [1, 1]]


def write(path, features, whole=True):
    content = {"type": "FeatureCollection", "features": features} if whole else features
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("whole", [True, False])
def test_a_pixel_belongs_to_an_object_if_its_center_does(tmp_path, whole):
    path = write(tmp_path / "a.geojson", [feature([SQUARE])], whole)
    [found] = read_geojson_objects(path, (8, 8))
    assert found.box == (slice(1, 4), slice(1, 5))  # x from 1 to 5 are columns 1 to 4
    assert found.mask.all()
    assert found.name == "object"


def test_holes_parts_and_objects_beyond_the_picture(tmp_path):
    hole = [[2, 2], [3, 2], [3, 3], [2, 3], [2, 2]]
    far = [[6, 6], [12, 6], [12, 7], [6, 7], [6, 6]]
    features = [
        feature([[SQUARE, hole], [far]], "tumor", "MultiPolygon"),
        feature([1, 1], "point", "Point"),
        feature([[[20, 20], [22, 20], [22, 22], [20, 20]]], "outside"),
    ]
    path = write(tmp_path / "a.geojson", features)
    [found] = read_geojson_objects(path, (8, 8))
    whole = np.zeros((8, 8), bool)
    whole[found.box] = found.mask
    assert whole.sum() == 12 - 1 + 2
    assert not whole[2, 2]
    assert whole[6, 6:].all()
    assert read_geojson_names(path) == {"tumor", "outside"}


def test_contours_that_medseg_writes_are_read_as_the_same_mask(tmp_path):
    mask = np.random.default_rng(0).random((20, 24)) > 0.4
    parts = [[ring.tolist() for ring in one.rings] for one in label_polygons(mask)]
    [found] = read_geojson_objects(
        write(tmp_path / "a.geojson", [feature(parts, kind="MultiPolygon")]), mask.shape
    )
    again = np.zeros_like(mask)
    again[found.box] = found.mask
    assert np.array_equal(again, mask)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("3", "expected GeoJSON"),
        (json.dumps([feature([["x", "y"]])]), "feature 0: expected a polygon"),
    ],
)
def test_files_that_are_no_geojson(tmp_path, text, message):
    path = tmp_path / "a.geojson"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_geojson_objects(path, (8, 8))


def test_derived_classes_are_named_by_their_parts(tmp_path):
    one = feature([SQUARE])
    one["properties"] = {"classification": {"names": ["Tumor", "Positive"], "color": [1, 2, 3]}}
    path = write(tmp_path / "a.geojson", [one])
    assert read_geojson_names(path) == {"Tumor: Positive"}
    assert read_geojson_objects(path, (8, 8))[0].name == "Tumor: Positive"
