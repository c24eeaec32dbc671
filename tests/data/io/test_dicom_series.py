"""Synthetic series written with pydicom, with and without faults; real series if available."""

import shutil

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MediaStorageDirectoryStorage, generate_uid

from medseg.data.io.readers import is_image_file, read_scan
from medseg.errors import DataError, GeometryError

ALONG = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def write_slice(folder, number, position, *, series="1.2.3", orientation=ALONG, series_number=4, pixels=None):
    folder.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    ds.Modality, ds.SeriesInstanceUID, ds.StudyInstanceUID = "CT", series, "1.2"
    ds.SeriesNumber, ds.InstanceNumber = series_number, number
    ds.PatientName, ds.PatientID = "Secret^Person", "12345"
    ds.ImagePositionPatient, ds.ImageOrientationPatient = list(position), list(orientation)
    ds.PixelSpacing, ds.SliceThickness = [0.5, 0.75], 3.0  # rows are 0.5 mm apart, columns 0.75 mm
    ds.Rows, ds.Columns = 4, 6
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 1
    ds.RescaleSlope, ds.RescaleIntercept = 2, -1000
    values = np.full((4, 6), number, np.int16) if pixels is None else pixels
    ds.PixelData = values.astype(np.int16).tobytes()
    ds.save_as(folder / f"{(number * 7) % 10}_{number}.dcm", enforce_file_format=True)


def write_series(folder, heights=(0, 3, 6, 9, 12), **options):
    for i, height in enumerate(heights, start=1):
        write_slice(folder, i, (-10.0, -20.0, float(height)), **options)
    return folder


def test_a_series_becomes_a_volume_sorted_along_its_normal(tmp_path):
    scan = read_scan(write_series(tmp_path / "ct"))
    assert scan.array.shape == (1, 6, 4, 5)
    assert scan.array[0, 0, 0].tolist() == [-998, -996, -994, -992, -990]  # 2 × number - 1000
    assert scan.grid.spacing == pytest.approx((0.75, 0.5, 3.0))
    # DICOM's first voxel lies at (-10, -20, 0) left-posterior-superior: (10, 20, 0) in RAS
    assert scan.grid.affine[:3, 3] == pytest.approx([10, 20, 0])
    assert np.diag(scan.grid.affine)[:3] == pytest.approx([-0.75, -0.5, 3])


def test_a_missing_slice_is_reported_with_its_gap(tmp_path):
    folder = write_series(tmp_path / "ct", (0, 3, 6, 12, 15))
    with pytest.raises(GeometryError, match=r"1 slice is missing between slice 3 and slice 4.*gap of 6\.00 mm"):
        read_scan(folder)


def test_a_duplicate_slice_is_reported(tmp_path):
    with pytest.raises(GeometryError, match=r"same place, 6\.00 mm.*slice 3 and slice 4"):
        read_scan(write_series(tmp_path / "ct", (0, 3, 6, 6, 9)))


def test_uneven_spacing_is_reported(tmp_path):
    with pytest.raises(GeometryError, match=r"unevenly spaced between slice 2 and slice 3"):
        read_scan(write_series(tmp_path / "ct", (0, 3, 7, 9, 12)))


def test_a_displaced_slice_is_reported(tmp_path):
    folder = write_series(tmp_path / "ct", (0, 3, 6, 9))
    write_slice(folder, 5, (-10.0, -13.0, 12.0))
    with pytest.raises(GeometryError, match=r"slice 5 is displaced by 7\.00 mm from the others"):
        read_scan(folder)


def test_a_tilted_gantry_is_reported_with_its_angle(tmp_path):
    for i in range(5):
        write_slice(tmp_path / "ct", i + 1, (0.0, i * 3 * np.tan(np.radians(15)), i * 3.0))
    with pytest.raises(GeometryError, match=r"sheared by 15\.0°"):
        read_scan(tmp_path / "ct")


def test_mixed_orientations_raise(tmp_path):
    folder = write_series(tmp_path / "ct")
    write_slice(folder, 6, (0.0, 0.0, 15.0), orientation=(0.0, 1.0, 0.0, 0.0, 0.0, -1.0))
    with pytest.raises(GeometryError, match="mixed orientations"):
        read_scan(folder)


def test_several_series_are_listed_and_one_can_be_selected(tmp_path):
    folder = write_series(tmp_path / "ct")
    write_slice(folder, 8, (0.0, 0.0, 50.0), series="1.2.9", series_number=7)
    with pytest.raises(DataError, match=r"2 series: 4 \(5 slices\), 7 \(1 slices\).*FOLDER#NUMBER"):
        read_scan(folder)
    assert read_scan(tmp_path / "ct#4").array.shape == (1, 6, 4, 5)
    assert read_scan(tmp_path / "ct#7").array.shape == (1, 6, 4, 1)
    with pytest.raises(DataError, match="no series 5"):
        read_scan(tmp_path / "ct#5")


def test_non_image_objects_raise_with_their_kind(tmp_path):
    folder = write_series(tmp_path / "rt", (0,))
    file = next(folder.iterdir())
    ds = pydicom.dcmread(file)
    ds.Modality = "RTSTRUCT"
    ds.save_as(file)
    with pytest.raises(DataError, match=r"RTSTRUCT \(contours of structures\)"):
        read_scan(folder)


def test_patient_data_is_not_shown(tmp_path):
    folder = write_series(tmp_path / "ct", (0, 3, 9))
    with pytest.raises(GeometryError) as caught:
        read_scan(folder)
    assert "Secret" not in str(caught.value)
    assert "12345" not in str(caught.value)


def test_a_folder_with_dicom_is_an_image(tmp_path):
    assert is_image_file(write_series(tmp_path / "ct"))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.txt").write_text("hello")
    assert not is_image_file(tmp_path / "notes")


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("name", ["dicom_ct_series", "dicom_mr_series", "dicom_seg"])
def test_real_series_have_the_geometry_of_simpleitk(data_root, name, tmp_path):
    folder = data_root / name / "images"
    scan = read_scan(folder)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    for index in ((0, 0, 0), tuple(n - 1 for n in image.GetSize())):
        lps = np.array(image.TransformIndexToPhysicalPoint([int(i) for i in index]))
        ras = scan.grid.affine @ [*index, 1]
        assert ras[:3] == pytest.approx(lps * [-1, -1, 1], abs=1e-3)
    assert np.array_equal(scan.array[0].transpose(2, 1, 0), sitk.GetArrayFromImage(image))
    if len(list(folder.iterdir())) > 3:
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        by_height = sorted(copy.iterdir(), key=lambda p: pydicom.dcmread(p).ImagePositionPatient[2])
        by_height[5].unlink()
        with pytest.raises(GeometryError, match="1 slice is missing"):
            read_scan(copy)


@pytest.mark.parametrize("kept", [0, 100, 140, 180, 300, 500, 650])
def test_a_truncated_last_slice_does_not_shorten_the_volume(tmp_path, kept):
    folder = write_series(tmp_path / "ct")
    last = next(path for path in folder.iterdir() if path.name.endswith("_5.dcm"))
    last.write_bytes(last.read_bytes()[:kept])  # the preamble has 132 bytes, the pixels begin at 762
    with pytest.raises(DataError, match=r"a file cannot be read, .* may be slices: 5_5\.dcm"):
        read_scan(folder)


def test_other_files_beside_the_slices_do_not_matter(tmp_path):
    folder = write_series(tmp_path / "ct")
    directory = FileMetaDataset()
    directory.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    directory.MediaStorageSOPInstanceUID, directory.TransferSyntaxUID = generate_uid(), ExplicitVRLittleEndian
    FileDataset(None, {}, file_meta=directory, preamble=b"\0" * 128).save_as(folder / "DICOMDIR")
    (folder / "notes.txt").write_text("a note")
    (folder / "._5_5.dcm").write_bytes(b"\0\5\x16\7")  # macOS writes such files on other file systems
    assert read_scan(folder).array.shape[-1] == 5


def test_an_object_without_file_header_is_named(tmp_path):
    made = pydicom.Dataset()
    made.SOPClassUID, made.Modality = "1.2.840.10008.5.1.4.1.1.481.3", "RTSTRUCT"
    pydicom.dcmwrite(tmp_path / "a.dcm", made, implicit_vr=True, little_endian=True)
    with pytest.raises(DataError, match=r"no DICOM image series: only RTSTRUCT \(contours of structures\)"):
        read_scan(tmp_path / "a.dcm")
    (tmp_path / "b.dcm").write_text("a note that is no DICOM object, long enough for the header of a file" * 9)
    with pytest.raises(DataError, match="no DICOM files"):
        read_scan(tmp_path / "b.dcm")
