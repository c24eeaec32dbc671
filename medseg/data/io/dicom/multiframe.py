"""Enhanced multi-frame DICOM: the frames of a file as slices of a volume (PS3.3, C.7.6.16)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.io.dicom.geometry import DicomSlice
from medseg.errors import DataError

FRAME_TAGS = ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"]


@dataclass(frozen=True)
class FrameGroups:
    """The functional groups of one frame.

    Attributes:
        own: groups of the frame.
        shared: groups shared by all frames.
    """

    own: Any
    shared: Any

    def get(self, keyword: str) -> Any:
        """Return the first item of a group by the keyword of its sequence; None if it does not exist."""
        for groups in (self.own, self.shared):
            if groups is not None and groups.get(keyword):
                return groups[keyword][0]
        return None

    def value(self, sequence: str, keyword: str) -> Any:
        """Return an attribute of a group; None if it does not exist."""
        item = self.get(sequence)
        return None if item is None else item.get(keyword)


def frame_groups(header: Any) -> list[FrameGroups]:
    """Return the functional groups of each frame, in the order of the frames."""
    shared = header.get("SharedFunctionalGroupsSequence")
    return [
        FrameGroups(own, shared[0] if shared else None)
        for own in header.get("PerFrameFunctionalGroupsSequence")
    ]


def frame_slices(header: Any, path: Path) -> list[DicomSlice]:
    """Return the frames of an enhanced object as slices, in the order of the file.

    Raises:
        DataError: if the frames do not form one volume (the message lists stacks, echoes, time points and the
            like), or have no position.
    """
    frames = frame_groups(header)
    slices = [_slice(i, frame, header, path) for i, frame in enumerate(frames)]
    _check_one_volume(frames, slices, path)
    return slices


def _slice(index: int, frame: FrameGroups, header: Any, path: Path) -> DicomSlice:
    position = frame.value("PlanePositionSequence", "ImagePositionPatient")
    orientation = frame.value("PlaneOrientationSequence", "ImageOrientationPatient")
    spacing = frame.value("PixelMeasuresSequence", "PixelSpacing")
    if position is None or orientation is None or spacing is None:
        raise DataError(
            f"{path}: frame {index + 1} of a multi-frame object lacks position, orientation or pixel spacing",
            hint="Convert it to single slices or NIfTI.",
            path=path,
        )
    slope = frame.value("PixelValueTransformationSequence", "RescaleSlope")
    intercept = frame.value("PixelValueTransformationSequence", "RescaleIntercept")
    return DicomSlice(
        path,
        index + 1,
        (int(header.Rows), int(header.Columns)),
        (float(spacing[0]), float(spacing[1])),
        np.array([float(v) for v in position]),
        np.array([float(v) for v in orientation]),
        float(frame.value("PixelMeasuresSequence", "SliceThickness") or 1.0),
        index,
        (1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)),
        modality=str(header.get("Modality") or "") or None,
    )


_DISTINCTIONS: dict[str, Callable[[FrameGroups], Any]] = {
    "stacks": lambda f: f.value("FrameContentSequence", "StackID"),
    "echo times": lambda f: f.value("MREchoSequence", "EffectiveEchoTime"),
    "time points": lambda f: f.value("FrameContentSequence", "TemporalPositionIndex"),
    "b-values": lambda f: f.value("MRDiffusionSequence", "DiffusionBValue"),
    "diffusion directions": lambda f: _direction(f.get("MRDiffusionSequence")),
    "cardiac phases": lambda f: f.value("CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase"),
    "inversion times": lambda f: f.value("MRModifierSequence", "InversionTimes"),
    "types of frame": lambda f: _frame_type(f),
}
"""Attributes that may distinguish frames at the same position."""


def _frame_type(frame: FrameGroups) -> str | None:
    kinds = (frame.value(f"{name}FrameTypeSequence", "FrameType") for name in ("MRImage", "CTImage", "PET"))
    return next(("/".join(kind) for kind in kinds if kind), None)


def _direction(item: Any) -> str | None:
    gradient = item.get("DiffusionGradientDirectionSequence") if item is not None else None
    return str(gradient[0].get("DiffusionGradientOrientation")) if gradient else None


def _check_one_volume(frames: list[FrameGroups], slices: list[DicomSlice], path: Path) -> None:
    positions = {tuple(np.round(np.concatenate([s.position, s.orientation]), 3).tolist()) for s in slices}
    stacks = {str(_DISTINCTIONS["stacks"](frame)) for frame in frames}
    if len(positions) == len(slices) and len(stacks) == 1:
        return
    varying: list[str] = []
    for name, read in _DISTINCTIONS.items():
        values = dict.fromkeys(str(read(frame)) for frame in frames)
        if 1 < len(values) < len(frames) or (len(values) == len(frames) and len(positions) == 1):
            shown = ", ".join(list(values)[:8]) + (", …" if len(values) > 8 else "")
            varying.append(f"{len(values)} {name} ({shown})")
    raise DataError(
        f"{path}: a multi-frame object with {len(slices)} frames at {len(positions)} positions is not one "
        f"volume: it contains {'; '.join(varying) or 'several frames at one position'}",
        hint="Split it into one series for each (for example with dcm2niix) and select one.",
        path=path,
    )
