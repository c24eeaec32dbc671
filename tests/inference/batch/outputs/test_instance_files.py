"""Files of the objects of a case."""

import io
import json
import tempfile
from contextlib import ExitStack, redirect_stdout
from copy import deepcopy
from pathlib import Path

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from skimage.measure import points_in_poly

from medseg.data.io.geojson import read_geojson_objects
from medseg.data.labels.schema import LabelSchema
from medseg.inference.batch.outputs.instance_files import InstanceWriter, instance_paths
from medseg.instances.result import Instances
from medseg.report.media.contours import signed_area

LABELS = LabelSchema(names={"background": (0,), "cell": (1,)})


def write(folder, found, **options):
    """Write the files of a picture, one object after the other; returns their content."""
    paths = instance_paths(folder, "a")
    with ExitStack() as staged:
        writer = InstanceWriter(paths, "a", "a.tif", LABELS, staged, **options)
        for index in range(max(len(found), 1)):
            part = found.select(np.arange(len(found)) == index)
            writer.add(part, np.ones((len(part), 1)))
        writer.finish(found.shape)
    table, *others = (path.read_text() for path in paths)
    return table, *map(json.loads, others)


def test_contours_for_qupath_are_those_of_the_finest_level(tmp_path):
    found = Instances.from_label_map(np.array([[0, 0, 0], [0, 0, 1]]))
    table, coco, geojson = write(tmp_path, found, enlarged=(4.0, 2.0))
    [feature] = geojson["features"]
    # the diamond around the pixel in row 1 and column 2, whose center (2.5, 1.5) is at (5, 6)
    assert feature["geometry"]["coordinates"] == [[[5, 4], [6, 6], [5, 8], [4, 6], [5, 4]]]
    assert coco["annotations"][0]["bbox"] == [2, 1, 1, 1]
    assert table.splitlines()[1].startswith("a,1,cell,1.0,1,1.00,2.00,1,1,2,2")


RING = np.pad(np.zeros((1, 1), int), 1, constant_values=1)
label_maps = arrays(
    np.int64, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.integers(0, 3), fill=st.nothing()
)


@settings(max_examples=60, deadline=None)
@given(label_maps)
@example(np.zeros((2, 3), int))  # no object
@example(np.ones((3, 2), int))  # at all borders
@example(np.eye(3, dtype=int) * [1, 2, 3])  # single pixels that touch at corners
@example(np.eye(3, dtype=int))  # one object of parts that touch at corners
@example(np.kron(np.eye(2, dtype=int), RING))  # with holes
@example(np.pad(np.pad(RING, 1), 1, constant_values=1))  # a ring of a part within the hole of another
@example(np.pad(2 * RING, 1, constant_values=1))  # another object in the hole
def test_coco_and_geojson_hold_exactly_the_objects(label_map):
    found = Instances.from_label_map(label_map)
    with tempfile.TemporaryDirectory() as folder:
        _, coco, geojson = write(Path(folder), found)
        single = Path(folder) / "single.geojson"
        assert geojson["type"] == "FeatureCollection"
        assert len(geojson["features"]) == len(coco["annotations"]) == len(found)
        for (box, mask), feature in zip(found, geojson["features"], strict=True):
            check_feature(feature, label_map.shape)
            single.write_text(json.dumps(feature))
            [read] = read_geojson_objects(single, label_map.shape)
            assert (read.box, read.name) == (box, "cell")
            assert np.array_equal(read.mask, mask)
    check_coco(coco, found)


def check_feature(feature, shape):
    """Check the rules of GeoJSON (RFC 7946) and of simple features, which QuPath and shapely demand."""
    geometry = feature["geometry"]
    parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    assert geometry["type"] == ("MultiPolygon" if len(parts) > 1 else "Polygon")
    parts = [[np.array(ring) for ring in part] for part in parts]
    for outer, *holes in parts:
        assert (outer >= 0).all()
        assert (outer <= shape[::-1]).all()
        assert signed_area(outer) > 0
        for hole in holes:
            assert signed_area(hole) < 0
            assert points_in_poly(hole, outer).all()
    rings = [ring for part in parts for ring in part]
    assert all(len(ring) >= 4 and (ring[0] == ring[-1]).all() for ring in rings)
    assert not touching_edges(rings)


def touching_edges(rings):
    """Count the pairs of edges that share a point, other than the common vertex of neighbors."""
    edges = np.concatenate([np.stack([ring[:-1], ring[1:]], axis=1) for ring in rings])
    ring_of = np.repeat(np.arange(len(rings)), [len(ring) - 1 for ring in rings])
    place = np.concatenate([np.arange(len(ring) - 1) for ring in rings])
    count = np.bincount(ring_of)[ring_of]
    first, second = np.triu_indices(len(edges), 1)
    steps = (place[second] - place[first]) % count[first]
    neighbors = (ring_of[first] == ring_of[second]) & ((steps == 1) | (steps == count[first] - 1))
    (a, b), (c, d) = (np.moveaxis(edges[side[~neighbors]], 1, 0) for side in (first, second))
    meet = (np.maximum(a, b) >= np.minimum(c, d)) & (np.maximum(c, d) >= np.minimum(a, b))
    crossing = (turn(a, b, c) * turn(a, b, d) <= 0) & (turn(c, d, a) * turn(c, d, b) <= 0)
    return int((meet.all(axis=1) & crossing).sum())


def turn(a, b, c):
    """Return the sign of the turns at b on the way from a to c; exact, as coordinates are multiples of 1/2."""
    return np.sign((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])


def test_edges_that_touch_are_found():
    square = np.array([[0, 0], [2, 0], [2, 2], [0, 2], [0, 0]])
    assert touching_edges([square]) == 0
    assert touching_edges([square, square + 3]) == 0
    assert touching_edges([square, square + 2]) == 4  # two edges of each meet at a corner
    assert touching_edges([square[[0, 2, 1, 3, 0]]]) == 1  # crossed


def check_coco(content, found):
    """Compare what pycocotools reads with the objects."""
    coco: COCO = COCO()
    coco.dataset = content
    with redirect_stdout(io.StringIO()):
        coco.createIndex()
        results = coco.loadRes(deepcopy(content["annotations"])) if len(found) else coco
    assert coco.loadCats(coco.getCatIds()) == [{"id": 1, "name": "cell"}]
    assert coco.loadImgs(coco.getImgIds())[0]["file_name"] == "a.tif"
    for (box, mask), entry in zip(found, coco.loadAnns(coco.getAnnIds()), strict=True):
        whole = np.zeros(found.shape, np.uint8)
        whole[box] = mask
        runs = coco.annToRLE(entry)
        assert np.array_equal(coco.annToMask(entry), whole)
        assert entry["area"] == coco_mask.area(runs) == whole.sum()
        assert entry["bbox"] == coco_mask.toBbox(runs).tolist()
        assert np.array_equal(results.annToMask(results.loadAnns(entry["id"])[0]), whole)
