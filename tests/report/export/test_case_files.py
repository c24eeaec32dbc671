import json
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from medseg.data.labels.schema import LabelSchema
from medseg.errors import ConfigError
from medseg.report.export import contours_geojson, export_case
from medseg.report.media import CaseView
from medseg.report.palette import Legend

LABELS = LabelSchema(names={"background": (0,), "vessel": (1,)})


def _picture():
    label = np.zeros((20, 30), int)
    label[5:15, 10:20] = 1
    label[8:10, 12:14] = 0
    image = np.zeros((20, 30, 3), np.uint8)
    return CaseView("eye", (1, 1), image, label, label, Legend.of(LABELS), labels=LABELS)


def _volume():
    label = np.zeros((10, 10, 10), int)
    label[3:7, 3:7, 3:7] = 1
    return CaseView("scan", (1, 1, 1), reference=label, legend=Legend.of(LABELS), labels=LABELS)


def test_geojson_has_closed_rings_and_a_hole():
    content = json.loads(contours_geojson(_picture().reference, Legend.of(LABELS)))
    [feature] = content["features"]
    assert feature["properties"]["classification"] == {"name": "vessel", "color": [86, 180, 233]}
    outer, hole = feature["geometry"]["coordinates"]
    assert outer[0] == outer[-1]
    assert hole[0] == hole[-1]
    # columns 10 to 20 and rows 5 to 15, in pixel edges
    assert (min(x for x, _ in outer), max(x for x, _ in outer)) == (10, 20)
    assert (min(y for _, y in outer), max(y for _, y in outer)) == (5, 15)
    assert (min(x for x, _ in hole), max(x for x, _ in hole)) == (12, 14)


def test_files_of_a_picture(tmp_path):
    written = export_case(_picture(), tmp_path, ["png", "svg", "geojson", "slicer", "itksnap"])
    names = [
        "eye.png",
        "eye.svg",
        "eye_reference.geojson",
        "eye_prediction.geojson",
        "eye.ctbl",
        "eye_itksnap.txt",
    ]
    assert [path.name for path in written] == names
    assert all(path.is_file() for path in written)
    with Image.open(tmp_path / "eye.png") as picture:
        assert picture.size == (4 * 768 + 3 * 6, 512)


def test_svg_has_editable_groups_of_named_contours(tmp_path):
    export_case(_picture(), tmp_path, ["svg"])
    root = ElementTree.parse(tmp_path / "eye.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    assert root.get("viewBox") == "0 0 30 20"
    groups = {group.get("id"): group for group in root.iter(f"{space}g")}
    assert set(groups) == {"reference", "prediction"}
    [path] = groups["reference"]
    assert path.get("d").count("M") == path.get("d").count("Z") == 2  # the outline and the hole
    assert path.find(f"{space}title").text == "vessel"


def test_files_of_a_volume(tmp_path):
    written = export_case(_volume(), tmp_path, ["svg", "stl", "obj"])
    names = {path.name for path in written}
    assert names == {
        *("scan_axial.svg", "scan_coronal.svg", "scan_sagittal.svg"),
        *("scan_reference_vessel.stl", "scan_reference.obj", "scan_reference.mtl"),
    }
    assert 'mm" viewBox' in (tmp_path / "scan_axial.svg").read_text()


@pytest.mark.parametrize(
    ("view", "name"),
    [(_picture(), "stl"), (_volume(), "geojson"), (replace(_picture(), labels=None), "slicer")],
)
def test_formats_that_do_not_apply_are_refused_before_anything_is_written(view, name, tmp_path):
    with pytest.raises(ConfigError, match=f"--export {name}"):
        export_case(view, tmp_path, ["png", name])
    assert not list(tmp_path.iterdir())
