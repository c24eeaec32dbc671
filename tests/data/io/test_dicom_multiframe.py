"""Enhanced multi-frame files, different rescales per slice, and projections."""

import numpy as np
import pydicom
import pytest
from conftest import write_picture
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.pixels import apply_modality_lut, apply_rescale
from pydicom.sequence import Sequence
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)
from series import AXIAL, turned, write_dicom

from medseg.data.curation.case_statistics import measure_case
from medseg.data.curation.convert import convert_dataset
from medseg.data.io.readers import is_dicom_series, output_suffix, read_scan, reader_for
from medseg.data.layouts import find_dataset
from medseg.data.preprocessing.modality import is_ct
from medseg.errors import DataError, GeometryError

VOXELS = np.random.default_rng(0).integers(0, 900, (5, 4, 6)).astype(np.int16)


def item(**values):
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def write_enhanced(path, voxels, heights, *, orientation=AXIAL, rescales=None, extra=None, modality="CT"):
    """Write voxels (frames, rows, columns) as one file; ``extra`` returns further groups of each frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    kind = EnhancedCTImageStorage if modality == "CT" else EnhancedMRImageStorage
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = kind, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid()
    ds = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    ds.Modality, ds.SeriesInstanceUID, ds.StudyInstanceUID = modality, generate_uid(), generate_uid()
    ds.SeriesNumber, ds.InstanceNumber, ds.NumberOfFrames = 3, 1, len(voxels)
    ds.Rows, ds.Columns = voxels.shape[1:]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 1
    measures = item(PixelSpacing=[0.5, 0.75], SliceThickness=3.0)
    ds.SharedFunctionalGroupsSequence = Sequence(
        [
            item(
                PixelMeasuresSequence=Sequence([measures]),
                PlaneOrientationSequence=Sequence([item(ImageOrientationPatient=list(orientation))]),
            )
        ]
    )
    normal = np.cross(orientation[:3], orientation[3:])
    frames = []
    for i, height in enumerate(heights):
        place = [f"{v:.8g}" for v in np.array([-10.0, -20.0, 30.0]) + height * normal]
        frame = item(PlanePositionSequence=Sequence([item(ImagePositionPatient=place)]))
        slope, intercept = (1, -1024) if rescales is None else rescales[i]
        values = item(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="HU")
        frame.PixelValueTransformationSequence = Sequence([values])
        for keyword, group in (extra(i) if extra else {}).items():
            setattr(frame, keyword, Sequence([group]))
        frames.append(frame)
    ds.PerFrameFunctionalGroupsSequence = Sequence(frames)
    ds.PixelData = voxels.astype(np.int16).tobytes()
    ds.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("orientation", [AXIAL, turned(20, 35)])
def test_an_enhanced_file_equals_its_classic_series(orientation, tmp_path):
    heights = [6.0, 0.0, 12.0, 3.0, 9.0]  # out of order
    path = write_enhanced(tmp_path / "e.dcm", VOXELS, heights, orientation=orientation)
    options = {"orientation": orientation, "heights": heights, "RescaleSlope": 1, "RescaleIntercept": -1024}
    classic = read_scan(write_dicom(tmp_path / "c", VOXELS, **options))
    scan = read_scan(path)
    assert np.array_equal(scan.array, classic.array)
    assert np.allclose(scan.grid.affine, classic.grid.affine, atol=1e-5)
    assert scan.grid.spacing == pytest.approx((0.75, 0.5, 3.0), abs=1e-5)
    assert scan.array.dtype.kind == "i"
    assert scan.modality == "CT"
    assert np.array_equal(read_scan(write_folder(path, tmp_path)).array, scan.array)


def write_folder(path, root):
    (root / "folder").mkdir()
    (root / "folder" / "1").write_bytes(path.read_bytes())
    return root / "folder"


def test_a_compressed_enhanced_file_has_the_same_values(tmp_path):
    rescales = [(1, 0), (0.37, 0), (0.37, 5), (2, -1024), (1, 0)]
    path = write_enhanced(tmp_path / "a.dcm", VOXELS, [0, 3, 6, 9, 12], rescales=rescales)
    plain = read_scan(path).array
    ds = pydicom.dcmread(path)
    ds.compress(RLELossless)
    ds.save_as(path)
    assert np.array_equal(read_scan(path).array, plain)


def test_each_frame_has_its_own_rescale(tmp_path):
    rescales = [(1, 0), (0.37, 0), (0.37, 5), (2, -1024), (1, 0)]
    path = write_enhanced(tmp_path / "e.dcm", VOXELS, [0, 3, 6, 9, 12], rescales=rescales)
    array = read_scan(path).array[0]
    for i, (slope, intercept) in enumerate(rescales):
        expected = apply_rescale(VOXELS[i], item(RescaleSlope=slope, RescaleIntercept=intercept))
        np.testing.assert_allclose(array[:, :, i].T, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("rescales", "kind"),
    [
        ([(1, 0), (0.37, 0), (0.37, 0), (1, 0), (1, 0)], "f"),
        ([(1, 0), (1, -1024), (1, -1024), (2, 0), (1, 0)], "i"),
    ],
)
def test_each_slice_has_its_own_rescale(rescales, kind, tmp_path):
    folder = write_dicom(tmp_path / "c", VOXELS, PixelRepresentation=0)
    for file in folder.iterdir():
        ds = pydicom.dcmread(file)
        ds.RescaleSlope, ds.RescaleIntercept = rescales[ds.InstanceNumber - 1]
        ds.save_as(file)
    array = read_scan(folder).array[0]
    assert array.dtype.kind == kind
    for file in folder.iterdir():
        ds = pydicom.dcmread(file)
        expected = apply_rescale(ds.pixel_array, ds)
        np.testing.assert_allclose(array[:, :, ds.InstanceNumber - 1].T, expected, rtol=1e-6)


def test_a_missing_frame_is_reported(tmp_path):
    path = write_enhanced(tmp_path / "e.dcm", VOXELS, [0, 3, 6, 12, 15])
    with pytest.raises(GeometryError, match="1 slice is missing between frame 3 and frame 4"):
        read_scan(path)


@pytest.mark.parametrize(
    ("heights", "extra", "message"),
    [
        (
            [0, 0, 3, 3],
            lambda i: {"MREchoSequence": item(EffectiveEchoTime=(4.6, 9.2)[i % 2])},
            r"4 frames at 2 positions is not one volume: it contains 2 echo times \(4\.6, 9\.2\)",
        ),
        (
            [0, 3, 0, 3],
            lambda i: {"FrameContentSequence": item(TemporalPositionIndex=1 + i // 2)},
            r"2 time points \(1, 2\)",
        ),
        (
            [0, 3, 30, 33],
            lambda i: {"FrameContentSequence": item(StackID=str(1 + i // 2))},
            r"2 stacks \(1, 2\)",
        ),
        ([0, 0, 3, 3], None, "several frames at one position"),
    ],
)
def test_frames_of_several_volumes_are_listed(heights, extra, message, tmp_path):
    path = write_enhanced(tmp_path / "e.dcm", VOXELS[:4], heights, extra=extra, modality="MR")
    with pytest.raises(DataError, match=message):
        read_scan(path)


def write_projection(path, pixels, **changes):
    folder = write_dicom(path.parent / "one", pixels[None], ImagePositionPatient=None, PixelRepresentation=0)
    ds = pydicom.dcmread(next(folder.iterdir()))
    uid = DigitalMammographyXRayImageStorageForPresentation
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = uid
    ds.Modality, ds.BitsStored, ds.HighBit = "MG", 12, 11
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    return path


PIXELS = np.arange(24).reshape(4, 6) * 100


@pytest.mark.parametrize("modality", ["MG", "CR", "DX"])
def test_a_projection_is_a_picture_with_its_spacing(modality, tmp_path):
    path = write_projection(tmp_path / "a.dcm", PIXELS, Modality=modality, ImagerPixelSpacing=[0.1, 0.2])
    scan = read_scan(path)
    assert (scan.kind, scan.array.shape, scan.modality) == ("picture", (1, 4, 6), modality)
    assert scan.grid.spacing == pytest.approx((0.5, 0.75))  # PixelSpacing, which is in the body, comes first
    assert np.array_equal(scan.array[0], PIXELS)
    ds = pydicom.dcmread(path)
    del ds.PixelSpacing
    ds.save_as(path)
    assert read_scan(path).grid.spacing == pytest.approx((0.1, 0.2))
    assert not is_dicom_series(path)
    assert output_suffix(path) == ".png"
    reader_for(path).write_label_map(tmp_path / "m.png", (PIXELS > 500).astype(np.uint8), scan, None)
    assert np.array_equal(read_scan(tmp_path / "m.png").array[0], PIXELS > 500)


def test_an_inverted_projection_is_inverted_back(tmp_path):
    path = write_projection(tmp_path / "a.dcm", PIXELS, PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(read_scan(path).array[0], 4095 - PIXELS)


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_the_lookup_table_of_a_projection_is_applied(photometric, tmp_path):
    table = item(LUTDescriptor=[4096, 0, 16], ModalityLUTType="US")
    table.LUTData = (np.arange(4096) * 3).astype("<u2").tobytes()
    changes = {"ModalityLUTSequence": Sequence([table]), "PhotometricInterpretation": photometric}
    path = write_projection(tmp_path / "a.dcm", PIXELS, **changes)
    ds = pydicom.dcmread(path)
    expected = apply_modality_lut(ds.pixel_array, ds)
    assert expected.max() == 2300 * 3
    inverted = photometric == "MONOCHROME1"
    assert np.array_equal(read_scan(path).array[0], 65535 - expected if inverted else expected)


def test_each_projection_in_a_folder_is_a_picture(tmp_path):
    for name in "ab":
        write_projection(tmp_path / "images" / f"{name}.dcm", PIXELS)
        write_picture(tmp_path / "labels" / f"{name}.png", (PIXELS > 500).astype(np.uint8))
    cases = find_dataset(tmp_path).checked().cases
    assert [case.id for case in cases] == ["a", "b"]
    facts = measure_case(cases[0])
    assert (facts.kind, facts.channels, facts.label_counts) == ("picture", 1, {0: 6, 1: 18})
    assert not is_ct([facts])
    convert_dataset(tmp_path, tmp_path.parent / f"{tmp_path.name}-out", "nnunet")
    [first, _] = find_dataset(tmp_path.parent / f"{tmp_path.name}-out").checked().cases
    assert first.image.name == "a_0000.tif"
    assert np.array_equal(read_scan(first.image).array[0], PIXELS)
