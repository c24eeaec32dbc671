import numpy as np
import pytest
import tifffile
from conftest import write_picture

from medseg.data.io.image_stacks import TiffReader
from medseg.data.io.readers import output_suffix, read_scan, reader_for
from medseg.data.layouts import find_cases
from medseg.data.scans import Scan, as_label_map
from medseg.errors import DataError
from medseg.geometry import Grid


def test_a_folder_of_pictures_is_a_volume_in_natural_order(tmp_path):
    for i in (10, 2, 1):
        write_picture(tmp_path / "s" / f"slice{i}.png", np.full((4, 5), i, np.uint8))
    scan = read_scan(tmp_path / "s")
    assert (scan.kind, scan.array.shape) == ("volume", (1, 5, 4, 3))
    assert scan.array[0, 0, 0].tolist() == [1, 2, 10]
    reader = reader_for(tmp_path / "s")
    reader.write_label_map(tmp_path / "out.tif", scan.array[0], scan, None)
    assert tifffile.imread(tmp_path / "out.tif")[:, 0, 0].tolist() == [1, 2, 10]


def test_negative_label_values_of_a_stack_stay_negative(tmp_path):
    scan = Scan(np.zeros((1, 3, 1, 1), np.uint8), Grid((3, 1, 1), np.eye(4)), "volume", tmp_path / "scan.tif")
    values = np.array([-1, 0, 200], np.int16).reshape(3, 1, 1)
    TiffReader().write_label_map(tmp_path / "labels.tif", values, scan, None)
    assert read_scan(tmp_path / "labels.tif").array.ravel().tolist() == [-1, 0, 200]


def test_slices_of_different_sizes_raise(tmp_path):
    write_picture(tmp_path / "s" / "1.png", np.zeros((4, 5), np.uint8))
    write_picture(tmp_path / "s" / "2.png", np.zeros((4, 6), np.uint8))
    with pytest.raises(DataError, match=r"slices of different sizes: 1\.png is \(1, 4, 5\), 2\.png"):
        read_scan(tmp_path / "s")


def test_stacks_are_matched_with_stacks_and_folders_of_masks(tmp_path):
    for case in ("a", "b"):
        for i in range(3):
            write_picture(tmp_path / "images" / case / f"{i}.png", np.zeros((4, 5), np.uint8))
    for i in range(3):
        write_picture(tmp_path / "labels" / "a" / f"{i}.png", np.zeros((4, 5), np.uint8))
    (tmp_path / "labels" / "b").mkdir()
    for name in ("liver", "spleen"):
        tifffile.imwrite(
            tmp_path / "labels" / "b" / f"{name}.tif", np.zeros((3, 4, 5), np.uint8), photometric="minisblack"
        )
    a, b = find_cases(tmp_path)
    assert (a.label, dict(a.masks)) == (tmp_path / "labels" / "a", {})
    assert b.label is None
    assert sorted(b.masks) == ["liver", "spleen"]


def test_numpy_arrays_are_volumes(tmp_path):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "b.npz", vol=array, seg=array * 0)
    assert np.array_equal(read_scan(tmp_path / "a.npy").array[0], array)
    assert np.array_equal(read_scan(tmp_path / "b.npz#vol").array[0], array)
    with pytest.raises(DataError, match=r"contains 2 arrays: vol, seg. Select one as FILE.npz#NAME"):
        read_scan(tmp_path / "b.npz")
    with pytest.raises(DataError, match="no array 'x'"):
        read_scan(tmp_path / "b.npz#x")
    np.save(tmp_path / "o.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read"):
        read_scan(tmp_path / "o.npy")


def test_numpy_arrays_of_two_axes_are_pictures(tmp_path):
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "b.npz", image=array, label=array > 5, scan=np.zeros((2, 3, 4)))
    np.savez_compressed(tmp_path / "c.npz", array > 5)
    for path in (tmp_path / "a.npy", tmp_path / "b.npz#image"):
        scan = read_scan(path)
        assert (scan.kind, scan.grid.spacing) == ("picture", (1, 1))
        assert np.array_equal(scan.array, array[None])
        assert output_suffix(path) == ".png"
    assert np.array_equal(as_label_map(read_scan(tmp_path / "c.npz")), array > 5)
    assert output_suffix(tmp_path / "c.npz") == ".png"
    assert output_suffix(tmp_path / "b.npz#scan") == output_suffix(tmp_path / "b.npz#none") == ".nii.gz"
    scan, label_map = read_scan(tmp_path / "a.npy"), (array > 5).astype(np.uint8)
    reader_for(tmp_path / "a.npy").write_label_map(tmp_path / "a.png", label_map, scan, None)
    assert np.array_equal(read_scan(tmp_path / "a.png").array[0], array > 5)
    np.save(tmp_path / "d.npy", np.zeros(3))
    (tmp_path / "e.npy").write_bytes(b"no array")
    assert output_suffix(tmp_path / "d.npy") == output_suffix(tmp_path / "e.npy") == ".nii.gz"
    with pytest.raises(DataError, match=r"shape \(3,\), expected numbers \(H, W\), \(X, Y, Z\)"):
        read_scan(tmp_path / "d.npy")


@pytest.mark.data
def test_a_real_stack(data_root):
    image, mask = (read_scan(data_root / "nuclei3d_stardist" / f"{n}3d.tif") for n in ("img", "mask"))
    assert image.grid.shape == mask.grid.shape == (57, 61, 31)
