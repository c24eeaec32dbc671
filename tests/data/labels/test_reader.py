"""Label files of every form become one map of values."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import write_picture, write_volume
from pycocotools import mask as coco_mask

from medseg.data.cases import Case
from medseg.data.io.multichannel import read_image
from medseg.data.labels.config import LabelConfig
from medseg.data.labels.label_plan import LabelDeclarations, plan_labels
from medseg.data.labels.reader import AS_STORED, LabelReader
from medseg.data.labels.schema import LabelSchema
from medseg.errors import DataError, GeometryError


def read(case, reader=AS_STORED):
    return reader.read(case, read_image(case)).values


def picture_case(root, pixels, shape=(4, 5)):
    image = write_picture(root / "i.png", np.zeros(shape, np.uint8))
    return Case("i", image, write_picture(root / "l.png", pixels))


def mask_case(root, **masks):
    image = write_volume(root / "i.nii.gz", np.zeros((3, 4, 5), np.int16))
    files = {name: write_volume(root / f"{name}.nii.gz", voxels) for name, voxels in masks.items()}
    return Case("i", image, masks=files)


def block(low, high, value=1, dtype=np.uint8):
    voxels = np.zeros((3, 4, 5), dtype)
    voxels[:, :, low:high] = value
    return voxels


COLORS = LabelReader(values={"sky": 0, "road": 5}, colors={"sky": (0, 0, 255), "road": (128, 64, 128)})


def test_colors_become_values(tmp_path):
    pixels = np.zeros((4, 5, 3), np.uint8)
    pixels[:2] = (0, 0, 255)
    pixels[2:] = (128, 64, 128)
    values = read(picture_case(tmp_path, pixels), COLORS)
    assert values.tolist() == [[0] * 5] * 2 + [[5] * 5] * 2
    pixels[3, 3] = (1, 2, 3)
    with pytest.raises(
        DataError, match=r"undeclared colors: \(1, 2, 3\): 1 pixels. Declare them under data\.labels\.colors"
    ):
        read(picture_case(tmp_path, pixels), COLORS)
    with pytest.raises(DataError, match="expected a color picture"):
        read(picture_case(tmp_path, pixels[..., 0]), COLORS)


def test_masks_of_single_labels_make_one_map(tmp_path):
    case = mask_case(tmp_path, liver=block(0, 2, 255), spleen=block(2, 3, 1, np.float32))
    values = read(case, LabelReader(values={"liver": 3, "spleen": 7}))
    assert values[0, 0].tolist() == [3, 3, 7, 0, 0]
    only = read(case, LabelReader(values={"spleen": 7}))
    assert only[0, 0].tolist() == [0, 0, 7, 0, 0]


def test_an_ignored_mask_is_not_background(tmp_path):
    case = mask_case(tmp_path, liver=block(0, 2), doubt=block(1, 3))
    labels = LabelSchema(names={"background": (0,), "liver": (1,)}, others="ignore")
    for kind in ({}, {"overlapping": True}, {"soft": True}):
        plan = plan_labels([case], LabelDeclarations(LabelConfig(**kind), labels))
        encoded = plan.schema.encode(read(case, plan.reader), "x")
        assert encoded[0, 0].tolist() == [2, 0, 0, 1, 1]  # liver, ignored twice, background
    out = plan_labels([case], LabelDeclarations(schema=labels.model_copy(update={"others": "background"})))
    assert out.schema.encode(read(case, out.reader), "x")[0, 0].tolist() == [2, 2, 1, 1, 1]


def test_overlapping_masks_raise_or_are_summed(tmp_path):
    case = mask_case(tmp_path, a=block(0, 3), b=block(2, 5))
    with pytest.raises(DataError, match=r"shares 12 voxels .* Set data.labels.overlapping=true"):
        read(case, LabelReader(values={"a": 1, "b": 2}))
    values = read(case, LabelReader(values={"a": 1, "b": 2}, overlapping=True))
    assert values[0, 0].tolist() == [1, 1, 3, 2, 2]


def test_channels_of_one_file_may_overlap(tmp_path):
    image = write_volume(tmp_path / "i.nii.gz", np.zeros((3, 4, 5), np.int16))
    both = np.stack([block(0, 3), block(2, 5)], axis=-1)
    case = Case("i", image, write_volume(tmp_path / "l.nii.gz", both))
    assert read(case, LabelReader(values={"a": 1, "b": 2}, overlapping=True))[0, 0].tolist() == [1, 1, 3, 2, 2]
    with pytest.raises(DataError, match="a label map has one channel"):
        read(case)


def test_background_probability_is_the_remainder(tmp_path):
    case = mask_case(tmp_path, gm=block(0, 2, 0.25, np.float32), wm=block(0, 1, 0.5, np.float32))
    reader = LabelReader(values={"background": 0, "gm": 1, "wm": 2}, soft=True)
    soft = reader.read_probabilities(case, read_image(case))
    assert soft[:, 0, 0].T.tolist() == [[0.25, 0.25, 0.5], [0.75, 0.25, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]]
    assert read(case, reader)[0, 0].tolist() == [2, 0, 0, 0, 0]
    loud = mask_case(tmp_path, gm=block(0, 2, 2, np.float32))
    with pytest.raises(DataError, match="expected probabilities from 0 to 1, got 0 to 2"):
        reader.read_probabilities(loud, read_image(loud))


def test_channels_of_an_image_are_stacked_on_one_grid(tmp_path):
    a = write_volume(tmp_path / "a.nii.gz", block(0, 2, 7, np.int16))
    b = write_volume(tmp_path / "b.nii.gz", block(0, 2, 0.5, np.float32))
    scan = read_image(Case("x", a, other_channels=(b,)))
    assert scan.array.shape == (2, 3, 4, 5)
    assert scan.array[:, 0, 0, 0].tolist() == [7, 0.5]
    moved = np.eye(4)
    moved[0, 3] = 7
    c = write_volume(tmp_path / "c.nii.gz", block(0, 2), moved)
    with pytest.raises(GeometryError, match=r"channels on different grids: .* 7 mm apart"):
        read_image(Case("x", a, other_channels=(c,)))


def coco_case(root, annotations, size=(8, 8)):
    content = {
        "images": [{"id": 4, "file_name": "i.png", "height": size[0], "width": size[1]}],
        "categories": [{"id": 1, "name": "big"}, {"id": 2, "name": "small"}],
        "annotations": [{"id": i, "image_id": 4, **a} for i, a in enumerate(annotations)],
    }
    (root / "a.json").write_text(json.dumps(content))
    image = write_picture(root / "i.png", np.zeros((8, 8), np.uint8))
    return Case("i", image, Path(f"{root / 'a.json'}#4"))


def square(x, y, side, category):
    corners = [x, y, x + side, y, x + side, y + side, x, y + side]
    return {"category_id": category, "segmentation": [corners]}


def test_coco_polygons_and_run_lengths(tmp_path):
    mask = np.zeros((8, 8), np.uint8, order="F")
    mask[6:, :3] = 1
    compressed = coco_mask.encode(mask)
    plain = {"size": [8, 8], "counts": [0, 1, 63]}  # the first pixel of the first column
    annotations = [
        square(4, 4, 2, 2),  # painted over the larger one, though it comes first
        square(2, 2, 6, 1),
        {"category_id": 2, "segmentation": {**compressed, "counts": compressed["counts"].decode()}},
        {"category_id": 1, "segmentation": plain},
        {"category_id": 1, "segmentation": [[1, 1, 2, 2]]},  # two points enclose nothing
    ]
    values = read(coco_case(tmp_path, annotations))
    expected = np.zeros((8, 8), int)
    expected[2:8, 2:8] = 1
    expected[4:6, 4:6] = 2
    expected[6:, :3] = 2
    expected[0, 0] = 1
    assert values.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ({"category_id": 1}, "annotation 0 of image 4: the segmentation is neither a polygon"),
        ({"category_id": 1, "segmentation": {"size": [9, 9], "counts": [0, 81]}}, "the mask has the shape"),
        ({"category_id": 1, "segmentation": [[1, 1, 4, 4, 1]]}, "expected pairs of numbers"),
        ({"category_id": 1, "segmentation": [[1, 1, 4, "four", 1, 4]]}, "expected pairs of numbers"),
    ],
)
def test_invalid_coco_annotations_raise(tmp_path, annotation, message):
    with pytest.raises(DataError, match=message):
        read(coco_case(tmp_path, [annotation]))


def test_coco_of_another_size_raises(tmp_path):
    with pytest.raises(GeometryError, match=r"declares an image of \(9, 9\) pixels, the image has \(8, 8\)"):
        read(coco_case(tmp_path, [square(1, 1, 3, 1)], size=(9, 9)))


@pytest.mark.data
def test_real_dicom_segmentations_equal_their_nrrd_twins(data_root):
    root = data_root / "dicom_seg"
    liver = read(Case("x", root / "images", root / "labels" / "liver.dcm"))
    twin = read(Case("x", root / "images", root / "labels" / "liver_seg.nrrd"))
    assert liver.sum() > 1000
    assert np.array_equal(liver != 0, twin != 0)


@pytest.mark.data
@pytest.mark.parametrize("name", ["ppv5", "noppv"])
def test_real_label_map_segmentations_equal_their_nrrd_twins(data_root, tmp_path, name):
    series = tmp_path / "series"
    series.mkdir()
    for file in (data_root / "dicom_seg" / "x38x3").glob("IMG*.dcm"):
        shutil.copy(file, series)
    labels = data_root / "dicom_seg" / "labels"
    stored = read(Case("x", series, labels / f"sparse-labelmap-{name}.dcm"))
    twin = read(Case("x", series, labels / f"sparse_labelmap_{name}_seg.nrrd"))
    assert np.array_equal(stored, np.where(twin == 5, 0, twin))  # 5 pads what no segment covers
    assert stored.any()


@pytest.mark.data
def test_real_overlapping_segments(data_root):
    root = data_root / "dicom_seg"
    case = Case("x", root / "images", root / "labels" / "partial_overlaps.dcm")
    with pytest.raises(DataError, match=r"Set data\.labels\.overlapping=true"):
        read(case)
    names = ["GREEN", "ORANGE", "PURPLE", "LIGHT_BLUE", "DARK_BLUE"]
    values = read(case, LabelReader(values={n: 1 << i for i, n in enumerate(names)}, overlapping=True))
    assert len(np.unique(values)) > 5
