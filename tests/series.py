"""Synthetic DICOM series for tests, of any orientation, with patient attributes that must not be shown."""

import numpy as np
from pydicom.config import disable_value_validation
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

NAME, NUMBER, DOCTOR = "Planted Person Müller", "PLANTED-4711", "Planted^Doctor"
"""The name has no caret and the birth date is no date: both make libraries warn, with the value."""

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def turned(yaw=0.0, pitch=0.0):
    """Directions of rows and columns, turned by two angles in degrees."""
    a, b = np.radians((yaw, pitch))
    first = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    second = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    matrix = first @ second
    return tuple(np.round([*matrix[:, 0], *matrix[:, 1]], 9).tolist())


def write_dicom(
    folder, voxels, *, orientation=AXIAL, spacing=(0.5, 0.75), heights=None, left_out=(), **changes
):
    """Write voxels (slices, rows, columns) as a CT series, its files in no order; returns the folder.

    ``spacing`` is between rows and between columns, mm; ``heights`` along the normal, 3 mm apart if None;
    ``changes`` are attributes to set, or to leave out where None.
    """
    folder.mkdir(parents=True, exist_ok=True)
    normal = np.cross(orientation[:3], orientation[3:])
    heights = [3.0 * i for i in range(len(voxels))] if heights is None else heights
    study, series, frame = (generate_uid() for _ in range(3))
    for i, (plane, height) in enumerate(zip(voxels, heights, strict=True)):
        if i in left_out:
            continue
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
        meta.MediaStorageSOPInstanceUID = generate_uid()
        ds = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        ds.SpecificCharacterSet = "ISO_IR 100"
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        ds.Modality, ds.StudyInstanceUID, ds.SeriesInstanceUID = "CT", study, series
        ds.FrameOfReferenceUID, ds.SeriesNumber, ds.InstanceNumber = frame, 4, i + 1
        ds.PatientName, ds.PatientID, ds.PatientSex, ds.StudyDate = NAME, NUMBER, "O", "20200102"
        ds.ReferringPhysicianName = DOCTOR
        with disable_value_validation():
            ds.PatientBirthDate = "Planted day"
        ds.ImagePositionPatient = [f"{v:.8g}" for v in np.array([-10.0, -20.0, 30.0]) + height * normal]
        ds.ImageOrientationPatient, ds.PixelSpacing = list(orientation), list(spacing)
        ds.SliceThickness = 3.0
        ds.Rows, ds.Columns = plane.shape
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated = ds.BitsStored = 16
        ds.HighBit, ds.PixelRepresentation = 15, 1
        ds.PixelData = plane.astype(np.int16).tobytes()
        for keyword, value in changes.items():
            if value is None:
                delattr(ds, keyword)
            else:
                setattr(ds, keyword, value)
        ds.save_as(folder / f"{(i * 7) % 10}_{i}.dcm", enforce_file_format=True)
    return folder
