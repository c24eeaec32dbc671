"""The channels of an image in one or several files."""

import numpy as np
import pytest
import tifffile
from conftest import write_picture
from PIL import Image

from medseg.data.cases import Case
from medseg.data.curation.case_statistics import measure_case
from medseg.data.curation.convert import convert_dataset
from medseg.data.io.multichannel import read_image
from medseg.data.io.pictures import convert_channels, display_channels
from medseg.data.io.readers import read_scan
from medseg.data.layouts import find_dataset

PLANES = [np.full((5, 6), value, np.uint8) for value in (10, 20, 30, 40)]


def test_channel_files_of_pictures_are_converted_separately(tmp_path):
    for i in range(2):
        write_picture(tmp_path / "d" / "images" / f"cell_{i:04d}.png", PLANES[i])
    write_picture(tmp_path / "d" / "labels" / "cell.png", np.eye(5, 6, dtype=np.uint8))
    convert_dataset(tmp_path / "d", tmp_path / "out", "nnunet")
    [case] = find_dataset(tmp_path / "out").checked().cases
    assert read_image(case).array[:, 0, 0].tolist() == [10, 20]


@pytest.mark.parametrize("count", [2, 3, 4])
def test_every_channel_file_of_a_picture_is_kept(count, tmp_path):
    for i in range(count):
        write_picture(tmp_path / "images" / f"cell_{i:04d}.png", PLANES[i])
    write_picture(tmp_path / "labels" / "cell.png", np.zeros((5, 6), np.uint8))
    [case] = find_dataset(tmp_path).checked().cases
    assert measure_case(case).channels == count
    array = convert_channels(read_image(case), count)
    assert array[:, 0, 0].tolist() == [10, 20, 30, 40][:count]


def test_channel_files_with_a_gray_palette_are_one_channel_each(tmp_path):
    paths = []
    for i, plane in enumerate(PLANES[:2]):
        picture = Image.fromarray(plane)
        picture.putpalette([v for n in range(256) for v in (n, n, n)])
        picture.save(tmp_path / f"{i}.png")
        paths.append(tmp_path / f"{i}.png")
    assert read_image(Case("a", paths[0], other_channels=(paths[1],))).array[:, 0, 0].tolist() == [10, 20]


def test_a_second_sample_of_a_tiff_is_a_channel_unless_declared_alpha(tmp_path):
    pixels = np.stack(PLANES[:2], axis=-1)
    for name, extra, expected in (("a", ["UNSPECIFIED"], [10, 20]), ("b", ["UNASSALPHA"], [10])):
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels, photometric="minisblack", planarconfig="contig",
                         extrasamples=extra)  # fmt: skip
        assert read_scan(tmp_path / f"{name}.tif").array[:, 0, 0].tolist() == expected


def test_a_fourth_sample_of_a_color_tiff_is_a_channel_unless_declared_alpha(tmp_path):
    pixels = np.stack(PLANES, axis=-1)
    for name, extra, expected in (("a", ["UNSPECIFIED"], 4), ("b", ["UNASSALPHA"], 3)):
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels, photometric="rgb", extrasamples=extra)
        scan = read_scan(tmp_path / f"{name}.tif")
        assert (len(scan.array), len(display_channels(scan))) == (expected, 3 if expected == 3 else 1)


def test_an_alpha_channel_is_dropped(tmp_path):
    for shape, expected in (((5, 6, 4), 3), ((5, 6, 2), 1)):
        write_picture(tmp_path / "a.png", np.full(shape, 7, np.uint8))
        assert len(read_scan(tmp_path / "a.png").array) == expected
