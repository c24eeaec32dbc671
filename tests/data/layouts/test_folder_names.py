"""Folders and files as people name them."""

import json

import numpy as np
import pytest
from conftest import write_picture, write_volume
from PIL import Image

from medseg.config.schema import load_config
from medseg.data.io.readers import read_scan
from medseg.data.layouts import LayoutOptions, find_cases, find_dataset
from medseg.data.scans import as_label_map
from medseg.errors import DataError
from medseg.training.dataset.preparation import find_labeled_cases

PICTURE = np.zeros((4, 5), np.uint8)


def pictures(folder, *names):
    for name in names:
        write_picture(folder / name, PICTURE)


def labels_of(cases):
    return {case.id: case.label and f"{case.label.parent.name}/{case.label.name}" for case in cases}


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("images", "masks"),
        ("imgs", "masks"),
        ("image", "label"),
        ("scans", "segmentations"),
        ("Images", "GT"),
        ("images", "ground_truth"),
        ("images", "1st_manual"),
        ("img", "annotations"),
        ("imagesTr", "labelsTr"),
    ],
)
def test_usual_folder_names(images, labels, tmp_path):
    pictures(tmp_path / images, "a.png", "b.png")
    pictures(tmp_path / labels, "a.png", "b_mask.png")
    assert labels_of(find_cases(tmp_path)) == {"a": f"{labels}/a.png", "b": f"{labels}/b_mask.png"}


def test_parts_that_hold_the_folders(tmp_path):
    for part, name in (("Training", "a"), ("validation", "b"), ("test", "c")):
        pictures(tmp_path / part / "imgs", f"{name}.png")
        if part != "test":
            pictures(tmp_path / part / "masks", f"{name}.png")
    cases = find_cases(tmp_path)
    assert [(c.id, c.part) for c in cases] == [("a", "train"), ("b", "val"), ("c", "test")]
    assert labels_of(cases) == {"a": "masks/a.png", "b": "masks/b.png", "c": None}


def test_a_test_part_beside_the_training_one_of_the_decathlon_without_numbers(tmp_path):
    pictures(tmp_path / "imagesTr", "a.png")
    pictures(tmp_path / "labelsTr", "a.png")
    pictures(tmp_path / "imagesTs", "b.png")
    cases = find_cases(tmp_path)
    assert [(c.id, c.part, c.label is not None) for c in cases] == [("a", "train", True), ("b", "test", False)]


def test_the_retina_dataset_drive(tmp_path):
    """Its vessels are GIFs whose names share a number with the picture's; ``mask`` is the field of view."""
    vessels = np.zeros((4, 5), np.uint8)
    vessels[1:3] = 255
    for part, word, numbers in (("training", "training", (21, 22)), ("test", "test", (1, 2))):
        for n in numbers:
            write_picture(tmp_path / part / "images" / f"{n:02d}_{word}.tif", np.zeros((4, 5, 3), np.uint8))
            for folder in ("mask", *(("1st_manual",) if part == "training" else ())):
                end = "manual1" if folder == "1st_manual" else f"{word}_mask"
                (tmp_path / part / folder).mkdir(exist_ok=True)
                Image.fromarray(vessels).save(tmp_path / part / folder / f"{n:02d}_{end}.gif")
    cases = find_cases(tmp_path)
    assert labels_of(cases) == {
        "21_training": "1st_manual/21_manual1.gif",
        "22_training": "1st_manual/22_manual1.gif",
        "01_test": None,
        "02_test": None,
    }
    label = as_label_map(read_scan(next(c.label for c in cases if c.label)))
    assert np.array_equal(label > 0, vessels > 0)


def test_an_animation_is_not_a_label_map(tmp_path):
    frames = [Image.fromarray(np.full((4, 5), v, np.uint8)) for v in (0, 255)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="an animation of 2 pictures"):
        read_scan(tmp_path / "a.gif")


def test_names_that_share_a_number(tmp_path):
    pictures(tmp_path / "images", "img001.png", "img002.png", "img010.png")
    pictures(tmp_path / "masks", "mask001.png", "mask002.png", "mask010.png")
    assert labels_of(find_cases(tmp_path)) == {f"img{n}": f"masks/mask{n}.png" for n in ("001", "002", "010")}


def test_names_that_share_nothing_are_listed(tmp_path):
    pictures(tmp_path / "images", "img001.png", "img002.png")
    pictures(tmp_path / "masks", "mask003.png", "mask004.png")
    with pytest.raises(DataError, match=r"img001\.png has no label map"):
        find_cases(tmp_path)


@pytest.mark.parametrize("end", ["_mask", "_seg", "-label", "_gt", "_Mask"])
def test_label_maps_beside_their_images(end, tmp_path):
    pictures(tmp_path, "a.png", "b.png", f"a{end}.png", f"b{end}.png")
    cases = find_cases(tmp_path)
    assert [case.id for case in cases] == ["a", "b"]
    assert [case.label.name for case in cases] == [f"a{end}.png", f"b{end}.png"]


def test_label_maps_beside_their_images_with_a_configured_suffix(tmp_path):
    pictures(tmp_path, "a.png", "b.png", "a_vessels.png", "b_vessels.png")
    assert [c.label.name for c in find_cases(tmp_path, label_suffix="_vessels")] == [
        "a_vessels.png",
        "b_vessels.png",
    ]
    with pytest.raises(DataError, match=r"data\.label_suffix"):
        find_cases(tmp_path)


def test_an_image_without_its_label_map_beside_it_is_listed(tmp_path):
    pictures(tmp_path, "a.png", "a_mask.png", "b.png")
    with pytest.raises(DataError, match=r"b\.png has no label map"):
        find_cases(tmp_path)


def test_folders_of_any_name_by_settings(tmp_path):
    pictures(tmp_path / "photos", "a.png")
    pictures(tmp_path / "drawn" / "final", "a.png")
    data = {"path": str(tmp_path), "image_dir": "photos", "label_dir": "drawn/final"}
    found, _ = find_labeled_cases(load_config({"spatial_dims": 2, "data": data}).data)
    assert labels_of(found.cases) == {"a": "final/a.png"}
    with pytest.raises(DataError, match=r"contains no folder nowhere.*found drawn/, photos/"):
        find_dataset(tmp_path, LayoutOptions(image_dir="nowhere"))


@pytest.mark.parametrize("folders", [(), ("images",), ("photos", "drawn")])
def test_errors_list_the_content_and_the_setting(folders, tmp_path):
    for folder in folders:
        pictures(tmp_path / folder, "a.png")
    with pytest.raises(DataError) as caught:
        find_cases(tmp_path)
    text = str(caught.value)
    assert "data.label_dir=" in text
    assert all(f"{folder}/" in text for folder in folders)


def test_ambiguous_folders_raise(tmp_path):
    pictures(tmp_path / "images", "a.png")
    pictures(tmp_path / "masks", "a.png")
    pictures(tmp_path / "gt", "a.png")
    with pytest.raises(
        DataError,
        match=r"several folders have usual names for the same.*: gt/, masks/.*data\.label_dir=gt",
    ):
        find_cases(tmp_path)
    [case] = find_dataset(tmp_path, LayoutOptions(label_dir="masks")).checked().cases
    assert case.label == tmp_path / "masks" / "a.png"


def test_images_beside_the_parts_are_reported(tmp_path):
    for folder in ("images", "labels"):
        pictures(tmp_path / folder / "train", "a.png")
        pictures(tmp_path / folder, "b.png")
    with pytest.raises(DataError, match=r"1 images are in no part of the split, such as b\.png"):
        find_cases(tmp_path)


def test_one_case_in_a_part(tmp_path):
    for folder in ("images", "labels"):
        write_volume(tmp_path / folder / "train" / "a.nii.gz", np.zeros((2, 2, 2), np.uint8))
    assert [(case.id, case.part) for case in find_cases(tmp_path)] == [("a", "train")]


def test_a_table_that_is_not_a_manifest_is_reported(tmp_path):
    (tmp_path / "manifest.csv").write_text("scan,mask\na.png,b.png\n")
    (tmp_path / "notes.json").write_text(json.dumps({}))
    with pytest.raises(DataError, match=r"manifest\.csv is not a manifest: expected a column image"):
        find_dataset(tmp_path)
