"""The digest of an image or label covers everything that determines its content, in every format."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import write_picture

from medseg.data.cases import Case
from medseg.data.curation.case_statistics import collect_statistics, image_digest, label_digest
from medseg.data.io.content_digest import content_digest, content_files
from medseg.data.io.readers import read_scan
from medseg.files import sha256_file


def write_itk(path, voxels):
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(np.ascontiguousarray(voxels.transpose())), str(path))
    return path


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_a_changed_data_file_is_measured_again(suffix, tmp_path):
    image = write_itk(tmp_path / "images" / f"a{suffix}", np.ones((4, 5, 6), np.int16))
    label = np.zeros((4, 5, 6), np.uint8)
    label[0, 0, 0] = 1
    path = write_itk(tmp_path / "labels" / f"a{suffix}", label)
    case = Case("a", image, path)
    header = path.read_bytes()
    [before] = collect_statistics([case], tmp_path / "store")
    write_itk(path, 1 - label)
    assert path.read_bytes() == header  # only the data file differs
    [after] = collect_statistics([case], tmp_path / "store")
    assert (before.label_counts, after.label_counts) == ({0: 119, 1: 1}, {0: 1, 1: 119})
    assert before.label_sha256 != after.label_sha256


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_images_with_equal_headers_and_different_data_are_different(suffix, tmp_path):
    first, second = (
        write_itk(tmp_path / name / f"x{suffix}", np.full((4, 5, 6), value, np.int16))
        for name, value in (("a", 1), ("b", 2))
    )
    assert first.read_bytes() == second.read_bytes()
    assert image_digest(Case("a", first)) != image_digest(Case("b", second))


METAIMAGE = "NDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = "
NRRD = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n"


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.mhd", METAIMAGE + "LIST\ns1.raw\ns2.raw\n"),
        ("a.mhd", METAIMAGE + "s%d.raw 1 2 1\n"),
        ("a.nhdr", NRRD + "data file: LIST 2\ns1.raw\ns2.raw\n"),
        ("a.nhdr", NRRD + "data file: s%d.raw 1 2 1 2\n\n"),
    ],
)
def test_every_slice_file_of_a_header_is_included(name, header, tmp_path):
    (tmp_path / name).write_text(header)
    for i in (1, 2):
        (tmp_path / f"s{i}.raw").write_bytes(bytes([i] * 4))
    read = read_scan(tmp_path / name).array
    assert read[0, 0, 0].tolist() == [1, 2]
    assert [p.name for p in content_files(tmp_path / name)] == [name, "s1.raw", "s2.raw"]
    before = content_digest(tmp_path / name)
    (tmp_path / "s2.raw").write_bytes(bytes([3] * 4))
    assert content_digest(tmp_path / name) != before


def test_a_header_with_voxels_is_a_single_file(tmp_path):
    for suffix in (".mha", ".nrrd"):
        path = write_itk(tmp_path / f"a{suffix}", np.ones((2, 2, 2), np.uint8))
        assert content_digest(path) == sha256_file(path)


def test_a_missing_data_file_raises_on_reading_not_on_hashing(tmp_path):
    path = write_itk(tmp_path / "a.mhd", np.ones((2, 2, 2), np.uint8))
    before = content_digest(path)
    (tmp_path / "a.raw").unlink()
    assert content_digest(path) != before


def test_the_digest_of_a_stack_depends_on_the_order(tmp_path):
    for i in (1, 2):
        write_picture(tmp_path / "a" / f"{i}.png", np.full((3, 3), i, np.uint8))
        write_picture(tmp_path / "b" / f"{i}.png", np.full((3, 3), 3 - i, np.uint8))
    assert content_digest(tmp_path / "a") != content_digest(tmp_path / "b")


def test_the_digest_of_coco_covers_the_annotations_of_the_image(tmp_path):
    def write(second):
        notes = [
            {"id": i, "image_id": i, "category_id": 1, "segmentation": s} for i, s in ((1, []), (2, second))
        ]
        images = [{"id": i, "file_name": f"{i}.png", "height": 4, "width": 4} for i in (1, 2)]
        content = {"images": images, "categories": [{"id": 1, "name": "a"}], "annotations": notes}
        (tmp_path / "a.json").write_text(json.dumps(content))
        return [label_digest(Case(str(i), tmp_path, tmp_path / f"a.json#{i}")) for i in (1, 2)]

    before, after = write([]), write([[0, 0, 2, 0, 2, 2, 0, 2]])
    assert before[0] == after[0]
    assert before[1] != after[1]
