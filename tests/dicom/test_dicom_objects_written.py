"""DICOM SEG and RTSTRUCT objects: geometry as read by pydicom, SimpleITK and medseg, and their attributes."""

import logging
import sys

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter
from series import AXIAL, DOCTOR, NAME, NUMBER, turned, write_dicom
from skimage.draw import polygon2mask

from medseg.data.io.dicom.segmentation import read_segments
from medseg.data.io.dicom.series import series_grid, series_slices
from medseg.data.io.itk import scan_from_sitk
from medseg.data.io.readers import read_scan
from medseg.data.labels.names.terminology import lookup_terminology
from medseg.data.scans import align_to_grid
from medseg.dicom.contours import outlines
from medseg.dicom.rtstruct import build_rtstruct
from medseg.dicom.segmentation import build_segmentation, require_highdicom
from medseg.dicom.source_series import Segment, SegmentAlgorithm, planes_on_slices, read_source_series
from medseg.errors import ConfigError, DataError, GeometryError

CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
UPSIDE_DOWN = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
ORIENTATIONS = [AXIAL, CORONAL, SAGITTAL, UPSIDE_DOWN, turned(25, 0), turned(-40, 15)]

ORGAN = Segment("left kidney", (1, 3), lookup_terminology("left kidney"), (86, 180, 233))
TUMOR = Segment("tumor", (3,), lookup_terminology("tumor"), (230, 90, 10))
SEGMENTS = [Segment("kidney", (1,), lookup_terminology("kidney"), (86, 180, 233)), TUMOR]
ALGORITHM = SegmentAlgorithm(model="ab" * 32)


def label_map(shape):
    """A ball (1) with a hollow, and a box (3), on (columns, rows, slices)."""
    places = np.indices(shape)
    center = np.array([shape[0] * 0.45, shape[1] * 0.5, shape[2] * 0.5]).reshape(3, 1, 1, 1)
    distance = np.sqrt((((places - center) / (np.array(shape).reshape(3, 1, 1, 1) * 0.4)) ** 2).sum(axis=0))
    made = ((distance < 1) & (distance > 0.3)).astype(np.uint8)
    made[1:4, 2:5, 1:-1] = 3
    return made


@pytest.fixture(params=ORIENTATIONS, ids=["axial", "coronal", "sagittal", "upside down", "turned", "oblique"])
def series(request, tmp_path):
    voxels = np.random.default_rng(0).integers(-100, 100, (7, 24, 30))
    return write_dicom(tmp_path / "series", voxels, orientation=request.param)


def write(made, path):
    made.save_as(path, enforce_file_format=True)
    return path


def rasterized(path, folder, grid):
    """ROI name → mask on the grid: each contour's pixels by the even-odd rule, in the slice it names."""
    ds = pydicom.dcmread(path)
    headers = read_source_series(folder, "resample").headers
    place = {header.SOPInstanceUID: k for k, header in enumerate(headers)}
    to_image = np.linalg.inv(grid.affine) @ np.diag([-1, -1, 1, 1])
    masks = {}
    for roi, contours in zip(ds.StructureSetROISequence, ds.ROIContourSequence, strict=True):
        mask = masks[str(roi.ROIName)] = np.zeros((*grid.shape[:2], len(place)), bool)
        for contour in contours.get("ContourSequence", []):
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            assert len(points) == contour.NumberOfContourPoints
            voxels = (to_image @ np.vstack([points.T, np.ones(len(points))]))[:3]
            assert np.ptp(voxels[2]) < 1e-3
            k = place[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
            if mask.shape[2] == grid.shape[2]:
                assert voxels[2] == pytest.approx(k, abs=1e-3)
            low = np.floor(voxels[:2].min(axis=1)).astype(int).clip(0)
            size = np.ceil(voxels[:2].max(axis=1)).astype(int) + 1 - low
            part = tuple(slice(a, a + n) for a, n in zip(low, size, strict=True))
            inside = polygon2mask(tuple(size), voxels[:2].T - low)
            cut = mask[(*part, k)]
            cut ^= inside[: cut.shape[0], : cut.shape[1]]
    return masks


def test_the_grid_is_read_from_headers_only(series):
    scan, grid = read_scan(series), series_grid(series_slices(series))
    assert grid.shape == scan.grid.shape
    assert np.allclose(grid.affine, scan.grid.affine, atol=1e-6)


def test_a_written_seg_is_read_back_exactly(series, tmp_path):
    scan, source = read_scan(series), read_source_series(series)
    values = label_map(scan.grid.shape)
    made = build_segmentation(planes_on_slices(values, scan.grid, source), SEGMENTS, source, ALGORITHM)
    path = write(made, tmp_path / "a.seg.dcm")
    back = read_segments(path, scan.grid)
    assert back.names == {1: "kidney", 2: "tumor"}
    assert np.array_equal(back.masks[1], values == 1)
    assert np.array_equal(back.masks[2], values == 3)
    # each frame has the position of its slice
    ds = pydicom.dcmread(path)
    files = {(f := pydicom.dcmread(p)).SOPInstanceUID: f for p in series.iterdir()}
    for frame in ds.PerFrameFunctionalGroupsSequence:
        of = files[frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]
        assert frame.PlanePositionSequence[0].ImagePositionPatient == of.ImagePositionPatient
    shared = ds.SharedFunctionalGroupsSequence[0]
    assert np.allclose(shared.PlaneOrientationSequence[0].ImageOrientationPatient, of.ImageOrientationPatient)
    assert shared.PixelMeasuresSequence[0].PixelSpacing == [0.5, 0.75]


def test_simpleitk_reads_a_segment_on_the_grid_of_the_series(series, tmp_path):
    scan, source = read_scan(series), read_source_series(series)
    values = label_map(scan.grid.shape)
    whole = Segment(
        "all", (0, 1, 3), lookup_terminology("body"), (1, 2, 3)
    )  # a voxel in each frame, so that no frame is omitted
    values[0, 0] = 1
    planes = planes_on_slices(values, scan.grid, source)
    for segment in (whole, SEGMENTS[0]):
        path = write(build_segmentation(planes, [segment], source, ALGORITHM), tmp_path / f"{segment.name}.dcm")
        read = align_to_grid(scan_from_sitk(sitk.ReadImage(str(path)), path), scan.grid)
        assert np.array_equal(read.array[0] > 0, np.isin(values, segment.values))


def test_segments_that_share_voxels_overlap(series, tmp_path):
    scan, source = read_scan(series), read_source_series(series)
    values = label_map(scan.grid.shape)
    made = build_segmentation(planes_on_slices(values, scan.grid, source), [ORGAN, TUMOR], source, ALGORITHM)
    assert made.SegmentsOverlap == "YES"
    back = read_segments(write(made, tmp_path / "a.seg.dcm"), scan.grid)
    assert np.array_equal(back.masks[1], values > 0)
    assert np.array_equal(back.masks[2], values == 3)


def test_contours_enclose_exactly_the_voxels(series, tmp_path):
    scan, source = read_scan(series), read_source_series(series)
    values = label_map(scan.grid.shape)
    made = build_rtstruct(planes_on_slices(values, scan.grid, source), SEGMENTS, source, ALGORITHM)
    masks = rasterized(write(made, tmp_path / "a.rtstruct.dcm"), series, scan.grid)
    assert np.array_equal(masks["kidney"], values == 1)
    assert np.array_equal(masks["tumor"], values == 3)


def test_outlines_of_a_pixel_and_of_a_ring():
    pixel = np.zeros((3, 4), bool)
    pixel[1, 2] = True
    (diamond,) = outlines(pixel)  # halfway to its four neighbors
    assert {tuple(vertex) for vertex in diamond.tolist()} == {(0.5, 2), (1.5, 2), (1, 1.5), (1, 2.5)}
    ring = np.ones((5, 5), bool)
    ring[2, 2] = False
    (polygon,) = outlines(ring)  # 8 corners outside, 4 inside; the ends of the channel appear twice
    assert len(polygon) == 8 + 4 + 2
    assert np.array_equal(polygon2mask((5, 5), polygon), ring)
    corner = np.eye(2, dtype=bool)
    assert len(outlines(corner)) == 2  # by a corner only


def test_any_mask_is_restored_from_its_outlines():
    rng = np.random.default_rng(0)
    for share in (0.3, 0.5, 0.7, 0.9):
        mask = rng.random((20, 30)) < share
        filled = np.zeros_like(mask)
        for polygon in outlines(mask):
            inside = polygon2mask(mask.shape, polygon)
            filled ^= inside
        assert np.array_equal(filled, mask)


def test_many_holes_and_many_parts(tmp_path, monkeypatch):
    rows, columns = np.indices((150, 150))
    holes = (rows % 3 != 1) | (columns % 3 != 1)  # 2,500 of them, all in one part
    (polygon,) = outlines(holes)
    assert np.array_equal(polygon2mask(holes.shape, polygon), holes)
    source = read_source_series(write_dicom(tmp_path / "s", np.zeros((3, 4, 5))))
    planes = np.zeros((3, 4, 5), np.uint8)
    planes[:, ::2, ::2] = 1
    monkeypatch.setattr("medseg.dicom.rtstruct.MAX_CONTOURS", 10)
    with pytest.raises(DataError, match=r"18 contours, 18 of them of kidney.*write a SEG"):
        build_rtstruct(planes, SEGMENTS, source, ALGORITHM)


def test_attributes_of_a_seg(tmp_path):
    folder = write_dicom(tmp_path / "s", np.zeros((3, 4, 5)))
    source = read_source_series(folder)
    planes = np.ones((3, 4, 5), np.uint8)
    made = build_segmentation(
        planes, [ORGAN, Segment("my\\label" * 9, (2,), lookup_terminology("x"), (0, 0, 0))], source, ALGORITHM
    )
    ds = pydicom.dcmread(write(made, tmp_path / "a.dcm"))
    first = pydicom.dcmread(source.slices[0].path)
    assert (ds.SegmentationType, ds.Modality, ds.SeriesNumber) == ("BINARY", "SEG", 1004)
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientSex", "StudyDate"):
        assert ds[keyword].value == first[keyword].value
    assert (str(ds.PatientName), ds.ReferringPhysicianName) == (NAME, DOCTOR)
    assert (str(ds.PatientName), ds.PatientID) == (str(first.PatientName), NUMBER)
    assert ds.SeriesInstanceUID != first.SeriesInstanceUID
    assert ds.ReferencedSeriesSequence[0].SeriesInstanceUID == first.SeriesInstanceUID
    assert len(ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 3
    assert "research use only" in ds.SeriesDescription
    assert "Research use only" in ds.ContentDescription
    kidney, other = ds.SegmentSequence
    kind = kidney.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodeValue, kind.CodingSchemeDesignator, kind.CodeMeaning) == ("64033007", "SCT", "Kidney")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert kidney.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "91723000"
    assert (kidney.SegmentAlgorithmType, kidney.SegmentAlgorithmName) == ("AUTOMATIC", "medseg")
    algorithm = kidney.SegmentationAlgorithmIdentificationSequence[0]
    assert algorithm.AlgorithmFamilyCodeSequence[0].CodeMeaning == "Artificial Intelligence"
    assert "ab" * 32 in algorithm.AlgorithmParameters
    assert len(kidney.RecommendedDisplayCIELabValue) == 3
    assert other.SegmentLabel == ("my label" * 9)[:64]
    again = build_segmentation(planes, [ORGAN], source, SegmentAlgorithm("MANUAL"))
    assert again.SOPInstanceUID != ds.SOPInstanceUID
    assert again.SegmentSequence[0].SegmentAlgorithmType == "MANUAL"


def test_attributes_of_a_structure_set(tmp_path):
    folder = write_dicom(tmp_path / "s", np.zeros((3, 4, 5)))
    source = read_source_series(folder)
    made = build_rtstruct(np.ones((3, 4, 5), np.uint8), [ORGAN, TUMOR], source, ALGORITHM)
    ds = pydicom.dcmread(write(made, tmp_path / "a.dcm"))
    first = pydicom.dcmread(source.slices[0].path)
    assert (ds.Modality, ds.ApprovalStatus, str(ds.PatientName)) == ("RTSTRUCT", "UNAPPROVED", NAME)
    frame = ds.ReferencedFrameOfReferenceSequence[0]
    assert frame.FrameOfReferenceUID == ds.FrameOfReferenceUID == first.FrameOfReferenceUID
    images = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert images.SeriesInstanceUID == first.SeriesInstanceUID
    assert len(images.ContourImageSequence) == 3
    assert [str(roi.ROIName) for roi in ds.StructureSetROISequence] == ["left kidney", "tumor"]
    assert ds.StructureSetROISequence[0].ROIGenerationAlgorithm == "AUTOMATIC"
    assert ds.ROIContourSequence[0].ROIDisplayColor == [86, 180, 233]
    assert "ContourSequence" not in ds.ROIContourSequence[1]  # it has no voxels
    assert ds.ROIContourSequence[0].ContourSequence[0].ContourGeometricType == "CLOSED_PLANAR"
    term = ds.RTROIObservationsSequence[0].RTROIIdentificationCodeSequence[0]
    assert (term.CodeValue, term.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning) == (
        "64033007",
        "Left",
    )
    assert "research use only" in ds.SeriesDescription


def test_empty_label_maps_make_valid_objects(tmp_path):
    folder = write_dicom(tmp_path / "s", np.zeros((3, 4, 5)))
    source, planes = read_source_series(folder), np.zeros((3, 4, 5), np.uint8)
    made = build_segmentation(planes, SEGMENTS, source, ALGORITHM)
    masks = read_segments(write(made, tmp_path / "a.dcm"), read_scan(folder).grid).masks
    assert not any(mask.any() for mask in masks.values())
    assert len(build_rtstruct(planes, SEGMENTS, source, ALGORITHM).ROIContourSequence) == 2


def test_missing_uids_of_a_series_are_created_deterministically(tmp_path):
    folder = write_dicom(
        tmp_path / "s", np.zeros((3, 4, 5)), FrameOfReferenceUID=None, StudyInstanceUID="", SOPInstanceUID=None
    )
    source, again = read_source_series(folder), read_source_series(folder)
    assert source.notes == ("the series has no UIDs of study, frame of reference; new ones were created",)
    assert source.first.FrameOfReferenceUID == again.first.FrameOfReferenceUID
    assert (
        source.first.FrameOfReferenceUID
        != source.first.StudyInstanceUID
        == source.patient_study.StudyInstanceUID
    )
    made = build_segmentation(np.ones((3, 4, 5), np.uint8), [ORGAN], source, ALGORITHM)
    assert made.FrameOfReferenceUID == source.first.FrameOfReferenceUID


def test_slices_of_two_frames_of_reference_are_rejected(tmp_path):
    folder = write_dicom(tmp_path / "s", np.zeros((3, 4, 5)))
    file = next(folder.iterdir())
    ds = pydicom.dcmread(file)
    ds.FrameOfReferenceUID = "1.2.3.4"
    ds.save_as(file)
    with pytest.raises(DataError, match="2 different UIDs of the frame of reference"):
        read_source_series(folder)


def test_a_label_map_off_the_slices_is_an_error(tmp_path):
    folder = write_dicom(tmp_path / "s", np.zeros((3, 4, 5)))
    other = write_dicom(tmp_path / "t", np.zeros((3, 4, 5)), orientation=CORONAL)
    grid = read_scan(folder).grid
    with pytest.raises(GeometryError, match="does not contain the slices"):
        planes_on_slices(np.zeros(grid.shape), grid, read_source_series(other))


def test_without_highdicom_the_error_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(ConfigError, match=r"needs highdicom, .*pip install '\.\[dicom\]'"):
        require_highdicom()


def test_patient_attributes_appear_in_no_log_or_message(tmp_path, caplog, recwarn):
    caplog.set_level(logging.DEBUG)
    folder = write_dicom(tmp_path / "s", np.zeros((3, 4, 5)))
    source = read_source_series(folder)
    planes = np.ones((3, 4, 5), np.uint8)
    for make in (build_segmentation, build_rtstruct):
        path = write(make(planes, [ORGAN], source, ALGORITHM), tmp_path / "a.dcm")
        assert b"Planted day" in path.read_bytes()
    source.headers[1].Rows = 99  # highdicom rejects it
    with pytest.raises(DataError, match="highdicom cannot write a DICOM SEG") as caught:
        build_segmentation(planes, [ORGAN], source, ALGORITHM)
    messages = caplog.text + str(caught.value) + "".join(str(w.message) for w in recwarn)
    assert not any(word in messages for word in ("Planted", "PLANTED", NAME, NUMBER))


def test_missing_slices_are_interpolated_and_objects_refer_to_existing_slices(tmp_path):
    voxels = np.repeat(np.arange(6)[:, None, None] * 10, 24, axis=1).repeat(30, axis=2)
    whole = write_dicom(tmp_path / "whole", voxels, orientation=turned(25, 10))
    part = write_dicom(tmp_path / "part", voxels, orientation=turned(25, 10), left_out=(2, 3))
    with pytest.raises(GeometryError, match=r"2 slices are missing.*--dicom-geometry resample"):
        read_scan(part)
    scan = read_scan(part, uneven="resample")
    assert scan.grid.shape == (30, 24, 6)
    assert np.allclose(scan.grid.affine, read_scan(whole).grid.affine, atol=1e-6)
    assert scan.array[0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50]  # interpolated where they are missing
    assert "6 slices, 3.00 mm apart" in scan.notes[0]
    values, source = label_map(scan.grid.shape), read_source_series(part, "resample")
    planes = planes_on_slices(values, scan.grid, source)
    assert np.array_equal(planes, values[:, :, [0, 1, 4, 5]].transpose(2, 1, 0))
    made = write(build_segmentation(planes, SEGMENTS, source, ALGORITHM), tmp_path / "a.dcm")
    expected = np.isin(np.arange(6), (0, 1, 4, 5)) & (values == 1)
    assert np.array_equal(read_segments(made, scan.grid).masks[1], expected)
    made = write(build_rtstruct(planes, SEGMENTS, source, ALGORITHM), tmp_path / "b.dcm")
    assert np.array_equal(rasterized(made, part, scan.grid)["kidney"], planes.transpose(2, 1, 0) == 1)


def test_uneven_slices_are_resampled_to_an_even_grid(tmp_path):
    # heights 0, 3, 7, 9, 12 mm: gaps 3, 4, 2, 3, usually 3, so 0, 3, 6, 9, 12: the third is 3/4 of the way to 7
    voxels = np.array([0, 300, 700, 900, 1200]).reshape(5, 1, 1) + np.zeros((5, 4, 5))
    folder = write_dicom(tmp_path / "s", voxels, heights=(0, 3, 7, 9, 12))
    scan = read_scan(folder, uneven="resample")
    assert scan.array[0, 0, 0].tolist() == [0, 300, 600, 900, 1200]
    assert scan.grid.spacing == pytest.approx((0.75, 0.5, 3.0))
    assert np.allclose(scan.grid.affine, series_grid(series_slices(folder, "resample")).affine)
    even = write_dicom(tmp_path / "even", voxels)
    assert read_scan(even, uneven="resample").notes == ()


def test_duplicate_and_tilted_slices_are_always_rejected(tmp_path):
    folder = write_dicom(tmp_path / "s", np.zeros((4, 4, 5)), heights=(0, 3, 3, 6))
    with pytest.raises(GeometryError, match="same place"):
        read_scan(folder, uneven="resample")


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(
    "name", ["dicom_ct_series", "dicom_mr_series", pytest.param("dicom_seg", marks=pytest.mark.exhaustive)]
)
def test_objects_of_real_series(data_root, name, tmp_path):
    folder = data_root / name / "images"
    scan, source = read_scan(folder), read_source_series(folder)
    values = np.zeros(scan.grid.shape, np.uint8)
    smooth = gaussian_filter(scan.array[0].astype(np.float32), 2)
    low, high = np.percentile(smooth, (50, 90))
    values[smooth > low] = 1
    values[smooth > high] = 3
    planes = planes_on_slices(values, scan.grid, source)
    path = write(build_segmentation(planes, SEGMENTS, source, ALGORITHM), tmp_path / "a.seg.dcm")
    back = read_segments(path, scan.grid)
    assert np.array_equal(back.masks[1], values == 1)
    assert np.array_equal(back.masks[2], values == 3)
    part = values.copy()
    part[:, :, 3:] = 0
    contours = build_rtstruct(planes_on_slices(part, scan.grid, source), SEGMENTS, source, ALGORITHM)
    masks = rasterized(write(contours, tmp_path / "a.rtstruct.dcm"), folder, scan.grid)
    assert np.array_equal(masks["tumor"], part == 3)
    assert np.array_equal(masks["kidney"], part == 1)
