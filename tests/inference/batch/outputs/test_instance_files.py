"""Files of the objects of a case."""

import json
from contextlib import ExitStack

import numpy as np

from medseg.data.labels.schema import LabelSchema
from medseg.inference.batch.outputs.instance_files import InstanceWriter, instance_paths
from medseg.instances.result import Instances

LABELS = LabelSchema(names={"background": (0,), "cell": (1,)})


def test_contours_for_qupath_are_those_of_the_finest_level(tmp_path):
    paths = instance_paths(tmp_path, "a")
    found = Instances.from_label_map(np.array([[0, 0, 0], [0, 0, 1]]))
    with ExitStack() as staged:
        writer = InstanceWriter(paths, "a", "a.tif", LABELS, staged, enlarged=(4.0, 2.0))
        writer.add(found, np.ones((1, 1)))
        writer.finish((2, 3))
    table, coco, geojson = (path.read_text() for path in paths)
    [feature] = json.loads(geojson)["features"]
    # the diamond around the pixel in row 1 and column 2, whose center (2.5, 1.5) is at (5, 6)
    assert feature["geometry"]["coordinates"] == [[[5, 4], [6, 6], [5, 8], [4, 6], [5, 4]]]
    assert json.loads(coco)["annotations"][0]["bbox"] == [2, 1, 1, 1]
    assert table.splitlines()[1].startswith("a,1,cell,1.0,1,1.00,2.00,1,1,2,2")
