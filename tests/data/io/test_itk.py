import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from conftest import write_volume

from medseg.data.io.readers import read_scan, reader_for
from medseg.errors import DataError

TURN = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)


def write(path, voxels, components=False):
    image = sitk.GetImageFromArray(voxels, isVector=components)
    image.SetSpacing((0.5, 1.0, 2.0))
    image.SetOrigin((3.0, -4.0, 5.0))
    image.SetDirection(TURN)
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd", ".nhdr"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_volumes_are_read_and_label_maps_written_on_their_grid(tmp_path, suffix, dtype):
    voxels = np.arange(24).reshape(2, 3, 4).astype(dtype)  # (Z, Y, X)
    scan = read_scan(write(tmp_path / f"a{suffix}", voxels))
    assert scan.array.dtype == dtype
    assert np.array_equal(scan.array[0], voxels.transpose(2, 1, 0))
    # voxel (1, 0, 0) lies at origin + 0.5 × the first column (0, 1, 0): (3, -3.5, 5) LPS, (-3, 3.5, 5) RAS
    assert scan.grid.affine @ [1, 0, 0, 1] == pytest.approx([-3, 3.5, 5, 1])
    assert scan.grid.spacing == pytest.approx((0.5, 1.0, 2.0))
    label = (scan.array[0] % 3).astype(np.uint8)
    reader_for(scan.path).write_label_map(tmp_path / "out.nrrd", label, scan, None)
    back = read_scan(tmp_path / "out.nrrd")
    assert np.array_equal(back.array[0], label)
    assert np.array_equal(back.grid.affine, scan.grid.affine)


def test_components_are_channels(tmp_path):
    voxels = np.random.default_rng(0).normal(size=(2, 3, 4, 2)).astype(np.float32)
    scan = read_scan(write(tmp_path / "a.nrrd", voxels, components=True))
    assert np.array_equal(scan.array, voxels.transpose(3, 2, 1, 0))


def test_the_geometry_equals_that_of_nifti(tmp_path):
    scan = read_scan(write(tmp_path / "a.nrrd", np.arange(24, dtype=np.int16).reshape(2, 3, 4)))
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "a.nrrd")), str(tmp_path / "a.nii.gz"))
    nifti = nib.load(tmp_path / "a.nii.gz")
    assert np.allclose(nifti.affine, scan.grid.affine, atol=1e-5)
    assert np.array_equal(np.asanyarray(nifti.dataobj), scan.array[0])


def test_damaged_and_2d_files_raise(tmp_path):
    (tmp_path / "a.nrrd").write_bytes(b"NRRD0004\ntype: short\nnonsense")
    with pytest.raises(DataError, match=r"a\.nrrd: cannot be read"):
        read_scan(tmp_path / "a.nrrd")
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4), np.uint8)), str(tmp_path / "b.nrrd"))
    with pytest.raises(DataError, match="expected a 3D volume"):
        read_scan(tmp_path / "b.nrrd")


@pytest.mark.data
def test_a_label_with_other_axes_is_aligned_to_its_image(data_root):
    from medseg.data.scans import align_to_grid

    image = read_scan(data_root / "dicom_ct_series" / "images")
    label = read_scan(data_root / "dicom_ct_series" / "labels" / "example_seg_dicom.nii.gz")
    assert not np.allclose(label.grid.affine, image.grid.affine)
    fitted = align_to_grid(label, image.grid)
    assert np.array_equal(fitted.array[0][:, ::-1], label.array[0])


def test_a_label_with_permuted_and_flipped_axes_is_aligned(tmp_path):
    from medseg.data.scans import align_to_grid

    voxels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    affine = np.array([[0, 0, 2.0, 1], [1.5, 0, 0, 2], [0, -1.0, 0, 3], [0, 0, 0, 1]])
    image = read_scan(write_volume(tmp_path / "image.nii.gz", voxels, affine))
    turned = nib.as_closest_canonical(nib.load(tmp_path / "image.nii.gz"))
    nib.save(turned, tmp_path / "label.nii.gz")
    assert np.array_equal(align_to_grid(read_scan(tmp_path / "label.nii.gz"), image.grid).array[0], voxels)


def test_voxels_of_50_nanometers_are_read_and_written(tmp_path):
    # 5e-5 mm: the determinant of the axes is 1.25e-13, and they span space all the same
    image = sitk.GetImageFromArray(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    image.SetSpacing((5e-5, 5e-5, 5e-5))
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
    scan = read_scan(tmp_path / "a.nrrd")
    assert scan.grid.spacing == pytest.approx((5e-5, 5e-5, 5e-5))
    reader_for(tmp_path / "a.nrrd").write_label_map(tmp_path / "b.nrrd", scan.array[0], scan, None)
    assert read_scan(tmp_path / "b.nrrd").grid.spacing == pytest.approx((5e-5, 5e-5, 5e-5))


def test_the_mask_of_a_nifti_scan_is_written_as_nrrd(tmp_path):
    rotation = np.array([[0.8, -0.6, 0, 5], [0.6, 0.8, 0, -7], [0, 0, 1, 9], [0, 0, 0, 1]])
    affine = rotation @ np.diag([0.5, 2, 3, 1])
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5), np.float32), affine), tmp_path / "scan.nii.gz")
    scan, mask = read_scan(tmp_path / "scan.nii.gz"), np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    path = tmp_path / "mask.nrrd"
    reader_for(path).write_label_map(path, mask, scan, None)
    written = read_scan(path)
    np.testing.assert_array_equal(written.array[0], mask)
    np.testing.assert_allclose(written.grid.affine, affine, atol=1e-5)
