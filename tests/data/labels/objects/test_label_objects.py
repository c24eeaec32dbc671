import json

import numpy as np
import pytest
from conftest import write_picture

from medseg.data.cases import Case
from medseg.data.io.multichannel import read_image
from medseg.data.labels.config import LabelConfig
from medseg.data.labels.label_plan import LabelDeclarations, plan_labels
from medseg.data.labels.objects.numbering import number_objects, pack_objects, unpack_objects
from medseg.data.labels.reader import LabelReader
from medseg.data.labels.schema import LabelSchema
from medseg.errors import ConfigError, DataError


def read(case, declared):
    plan = plan_labels([case], declared)
    label_map = plan.reader.read(case, read_image(case))
    assert label_map is not None
    return plan, label_map


def test_numbers_close_gaps():
    assert number_objects(np.array([[0, 300], [7, 7]])).tolist() == [[0, 2], [1, 1]]


def test_packed_numbers_come_back():
    codes, objects = np.array([0, 3]), np.array([2**23 - 1, 0])
    back = unpack_objects(pack_objects(codes, objects))
    assert [part.tolist() for part in back] == [[0, 3], [2**23 - 1, 0]]


def test_a_map_of_ids_has_one_label_and_its_objects(tmp_path):
    image = write_picture(tmp_path / "a.png", np.zeros((2, 4), np.uint8))
    label = write_picture(tmp_path / "b.png", np.array([[0, 700, 700, 255], [3, 0, 0, 255]], np.uint16))
    config = LabelConfig(names={"background": (0,), "nucleus": (1,)}, ignore_value=255)
    plan, found = read(Case("a", image, label), LabelDeclarations(config, instances="keep"))
    assert list(plan.schema.names) == ["background", "nucleus"]
    assert found.values.tolist() == [[0, 1, 1, 255], [1, 0, 0, 255]]
    assert found.objects.tolist() == [[0, 2, 2, 0], [1, 0, 0, 0]]
    assert plan.schema.encode(found.values, "b").tolist() == [[1, 2, 2, 0], [2, 1, 1, 0]]


def test_a_file_for_each_label_numbers_its_objects(tmp_path):
    image = write_picture(tmp_path / "a.png", np.zeros((1, 4), np.uint8))
    numbers = {"cell": [[1, 2, 0, 0]], "mitosis": [[0, 0, 0, 1]]}
    masks = {
        name: write_picture(tmp_path / f"{name}.png", np.array(one, np.uint8)) for name, one in numbers.items()
    }
    plan, found = read(Case("a", image, masks=masks), LabelDeclarations(instances="keep"))
    assert plan.schema.class_names == ("background", "cell", "mitosis")
    assert found.values.tolist() == [[1, 1, 0, 2]]
    assert found.objects.tolist() == [[1, 2, 0, 3]]


def test_connected_parts_of_each_label_are_objects(tmp_path):
    image = write_picture(tmp_path / "a.png", np.zeros((1, 6), np.uint8))
    label = write_picture(tmp_path / "b.png", np.array([[1, 1, 2, 0, 1, 0]], np.uint8))
    config = LabelConfig(names={"background": (0,), "one": (1,), "two": (2,)})
    _, found = read(Case("a", image, label), LabelDeclarations(config, instances="components"))
    assert found.values.tolist() == [[1, 1, 2, 0, 1, 0]]
    assert len(np.unique(found.objects)) == 4
    assert found.objects[0, 0] == found.objects[0, 1] != found.objects[0, 4]


@pytest.mark.parametrize("ignored", [99, None])
def test_coco_objects_and_crowds(tmp_path, ignored):
    image = write_picture(tmp_path / "a.png", np.zeros((4, 6), np.uint8))
    box = [0, 0, 2, 0, 2, 2, 0, 2]
    crowd = {"size": [4, 6], "counts": [20, 4]}  # the last column
    entries = [
        {"id": 1, "image_id": 1, "category_id": 5, "segmentation": [box], "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 5, "segmentation": [[x + 2 if i % 2 == 0 else x for i, x in
                                                                      enumerate(box)]], "iscrowd": 0},
        {"id": 3, "image_id": 1, "category_id": 5, "segmentation": crowd, "iscrowd": 1},
    ]  # fmt: skip
    content = {"images": [{"id": 1, "file_name": "a.png", "height": 4, "width": 6}], "annotations": entries,
               "categories": [{"id": 5, "name": "cell"}]}  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(content))
    layout = LabelSchema(names={"background": (0,), "cell": (5,)}, ignore_value=ignored)
    case = Case("a", image, tmp_path / "a.json#1")
    plan, found = read(case, LabelDeclarations(layout=layout, instances="keep"))
    assert sorted(np.unique(found.objects[:2, :4])) == [1, 2]  # they touch
    assert plan.schema.encode(found.values, "a")[:, 5].tolist() == [0] * 4
    assert found.values[0, 0] == 5
    assert not found.objects[:, 5].any()


def test_ignored_voxels_belong_to_no_object(tmp_path):
    image = write_picture(tmp_path / "a.png", np.zeros((1, 4), np.uint8))
    files = {"cell": [[1, 1, 0, 2]], "ignore": [[0, 1, 0, 0]]}
    masks = {
        name: write_picture(tmp_path / f"{name}.png", np.array(one, np.uint8)) for name, one in files.items()
    }
    reader = LabelReader(values={"cell": 1}, ignored={"ignore": 9}, instances="keep", kept_values=(0, 9))
    case = Case("a", image, masks=masks)
    found = reader.read(case, read_image(case))
    assert found is not None
    assert found.values.tolist() == [[1, 9, 0, 1]]
    assert found.objects.tolist() == [[1, 0, 0, 2]]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LabelConfig(names={"background": (0,), **{f"c{i}": (i,) for i in range(1, 256)}}), "256 labels"),
        (LabelConfig(names={"background": (0,), "a": (1,), "b": (2,)}), "2 labels are declared"),
        (LabelConfig(names={"background": (0,), "a": (1,)}, overlapping=True), "not possible with"),
    ],
)
def test_labels_that_hold_no_objects(tmp_path, config, message):
    source = "components" if len(config.names) > 3 else "keep"
    with pytest.raises(ConfigError, match=message):
        plan_labels(
            [Case("a", tmp_path / "a.png", tmp_path / "b.png")], LabelDeclarations(config, instances=source)
        )


def test_crowds_do_not_cover_objects(tmp_path):
    image = write_picture(tmp_path / "a.png", np.zeros((4, 6), np.uint8))
    entries = [
        {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]]},
        {"id": 2, "image_id": 1, "category_id": 1, "iscrowd": 1,
         "segmentation": {"size": [4, 6], "counts": [12, 8, 4]}},  # columns 3 and 4
    ]  # fmt: skip
    content = {"images": [{"id": 1, "file_name": "a.png", "height": 4, "width": 6}], "annotations": entries,
               "categories": [{"id": 1, "name": "cell"}]}  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(content))
    layout = LabelSchema(names={"background": (0,), "cell": (1,)}, ignore_value=9)
    case = Case("a", image, tmp_path / "a.json#1")
    _, found = read(case, LabelDeclarations(layout=layout, instances="keep"))
    assert found.values[0].tolist() == [1, 1, 1, 1, 9, 0]
    assert (found.objects > 0)[0].tolist() == [True] * 4 + [False] * 2


def test_negative_numbers_are_no_objects():
    with pytest.raises(DataError, match="has the value -1"):
        number_objects(np.array([-1, 0, 4]))
