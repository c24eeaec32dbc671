"""Datasets in COCO's panoptic format, also those of Cityscapes."""

import json

import numpy as np
import pytest
from conftest import write_picture

from medseg.data.io.content_digest import content_digest
from medseg.data.io.multichannel import read_image
from medseg.data.labels.config import LabelConfig
from medseg.data.labels.label_plan import LabelDeclarations, plan_labels
from medseg.data.layouts import find_dataset
from medseg.errors import ConfigError, DataError, GeometryError

SKY, CAR, PERSON = 23, 26, 300
CATEGORIES = [
    {"id": SKY, "name": "sky", "isthing": 0},
    {"id": CAR, "name": "car", "isthing": 1},
    {"id": PERSON, "name": "person", "isthing": 1},
]
SEGMENTS = np.array([[0, 5, 5, 70000], [70000, 9, 9, 7]])
CLASSES = {5: SKY, 70000: CAR, 9: CAR, 7: PERSON}  # 7 is a crowd


def write_annotations(file, png, image_id, picture):
    info = [{"id": n, "category_id": kind, "iscrowd": int(n == 7)} for n, kind in CLASSES.items()]
    channels = np.stack([SEGMENTS >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)
    write_picture(file.with_suffix("") / png, channels)
    content = {"images": [{"id": image_id, "file_name": picture}], "categories": CATEGORIES,
               "annotations": [{"image_id": image_id, "file_name": png, "segments_info": info}]}  # fmt: skip
    file.write_text(json.dumps(content))


@pytest.fixture
def coco(tmp_path):
    for part in ("train", "val"):
        write_picture(tmp_path / f"{part}2017" / f"{part}.jpg", np.zeros((2, 4, 3), np.uint8))
        file = tmp_path / "annotations" / f"panoptic_{part}2017.json"
        write_annotations(file, f"{part}.png", 3, f"{part}.jpg")
    return tmp_path


def read(root, instances=None, config=None):
    listing = find_dataset(root)
    declared = LabelDeclarations(config or LabelConfig(), layout=listing.labels, instances=instances)
    plan = plan_labels(listing.checked().cases, declared)
    return plan.reader.read(plan.cases[0], read_image(plan.cases[0])), plan.schema


def test_pixels_have_the_classes_of_their_segments(coco):
    listing = find_dataset(coco)
    assert listing.layout == "COCO panoptic"
    assert [(case.id, case.part) for case in listing.cases] == [("train", "train"), ("val", "val")]
    found, schema = read(coco)
    assert list(schema.names) == ["sky", "car", "person"]
    assert not schema.background
    assert found.objects is None
    assert found.values.tolist() == [[255, SKY, SKY, CAR], [CAR, CAR, CAR, PERSON]]


def test_objects_are_those_of_countable_classes(coco):
    found, schema = read(coco, "keep")
    assert list(schema.names) == ["background", "car", "person"]
    assert found.values.tolist() == [[255, 0, 0, CAR], [CAR, CAR, CAR, 255]]
    assert found.objects.tolist() == [[0, 0, 0, 2], [2, 1, 1, 0]]
    assert schema.encode(found.values, "a").tolist() == [[0, 1, 1, 2], [2, 2, 2, 0]]
    one, _ = read(coco, "keep", LabelConfig(names={"background": (0,), "car": (CAR,)}))
    assert one.objects.tolist() == found.objects.tolist()
    with pytest.raises(ConfigError, match=r"none of the labels \['sky', 'void'\] is countable"):
        read(coco, "keep", LabelConfig(names={"sky": (SKY,), "void": (0,)}))


def test_cityscapes_with_panoptic_files(tmp_path):
    for city in ("bonn", "ulm"):
        name = f"{city}_000000_000019"
        image = tmp_path / "leftImg8bit" / "train" / city / f"{name}_leftImg8bit.png"
        write_picture(image, np.zeros((2, 4, 3), np.uint8))
    file = tmp_path / "gtFine" / "cityscapes_panoptic_train.json"
    name = "bonn_000000_000019"
    write_annotations(file, f"{name}_gtFine_panoptic.png", name, f"{name}_gtFine_leftImg8bit.png")
    [case] = find_dataset(tmp_path).checked().cases
    assert (case.id, case.patient, case.image.name) == (name, "bonn", f"{name}_leftImg8bit.png")
    assert read(tmp_path, "keep")[0].objects.max() == 2


def test_instances_are_read_where_both_kinds_of_files_exist(coco):
    file = coco / "annotations" / "instances_val2017.json"
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "car"}]}
    file.write_text(json.dumps(content))
    assert find_dataset(coco).layout == "COCO instances"
    file.write_text(json.dumps(content | {"categories": []}))
    with pytest.raises(DataError, match="lists no categories"):
        find_dataset(coco)


def test_labels_depend_on_segments_and_pixels(coco):
    label = find_dataset(coco).cases[0].label
    digests = [content_digest(label)]
    write_picture(coco / "annotations" / "panoptic_train2017" / "train.png", np.zeros((2, 4, 3), np.uint8))
    digests.append(content_digest(label))
    file = coco / "annotations" / "panoptic_train2017.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["segments_info"][0]["category_id"] = PERSON
    file.write_text(json.dumps(content))
    assert len({*digests, content_digest(label)}) == 3


def test_files_that_do_not_fit(coco):
    folder = coco / "annotations" / "panoptic_train2017"
    write_picture(folder / "train.png", np.full((2, 4, 3), 1, np.uint8))
    with pytest.raises(DataError, match=r"segment 65793 is not in"):
        read(coco)
    write_picture(folder / "train.png", np.zeros((3, 4, 3), np.uint8))
    with pytest.raises(GeometryError, match=r"has \(3, 4\) pixels"):
        read(coco, "keep")
    file = coco / "annotations" / "panoptic_val2017.json"
    content = json.loads(file.read_text())
    content["categories"][0]["name"] = "cloud"
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="in another file"):
        find_dataset(coco)
