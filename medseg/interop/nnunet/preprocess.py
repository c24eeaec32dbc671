"""From a scan to what an nnU-Net network takes, and from its labels back to the scan's axes."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from nibabel.orientations import io_orientation
from scipy.ndimage import binary_fill_holes

from medseg.data.io.pictures import convert_channels
from medseg.data.scans import Scan, check_finite
from medseg.errors import DataError
from medseg.geometry import Array, from_ras, to_ras
from medseg.interop.nnunet.header import Normalization, Stage
from medseg.interop.nnunet.plans import backward
from medseg.interop.nnunet.resample import new_shape, resample_image, resample_labels

_EPSILON = 1e-8
_SLICE_OF_PICTURE = 999.0
"""Distance between slices of a picture, which has one."""


@dataclass(frozen=True)
class Cropped:
    """A scan's part in which something is not zero, its axes in the order of the plans.

    Attributes:
        image: (C, *S) float32.
        inside: (*S) bool: not zero in some channel, or enclosed by such voxels.
        box: where it lies in the whole.
        whole: shape before it was cut out.
        spacing: mm, along these axes.
    """

    image: Array
    inside: Array
    box: tuple[slice, ...]
    whole: tuple[int, ...]
    spacing: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each axis."""
        return self.inside.shape


def crop(scan: Scan, stage: Stage) -> Cropped:
    """Cut out the part of a scan that is not zero.

    Raises: DataError if it has other channels, voxels that are no numbers, or is no scan for this model.
    """
    if (scan.kind == "picture") != (stage.reader == "picture"):
        wanted = "pictures" if stage.reader == "picture" else "volumes"
        raise DataError(f"{scan.path}: a {scan.kind}; this model takes {wanted}")
    check_finite(scan)
    array = _as_read(convert_channels(scan, stage.channels), scan, stage)
    order = stage.transpose
    array = array.transpose(0, *(1 + axis for axis in order)).astype(np.float32)
    spacing = _spacing(scan, stage)
    inside = array[0] != 0
    for channel in array[1:]:
        inside |= channel != 0
    inside = binary_fill_holes(inside)
    assert inside is not None
    box = _box(inside)
    return Cropped(
        array[(slice(None), *box)], inside[box], box, inside.shape, tuple(spacing[axis] for axis in order)
    )


def network_spacing(cropped: Cropped, stage: Stage) -> tuple[float, ...]:
    """mm along each axis of the network's grid; slices stay where they are in a network of two dimensions."""
    return stage.spacing if len(stage.spacing) == 3 else (cropped.spacing[0], *stage.spacing)


def prepare(cropped: Cropped, stage: Stage, previous: Array | None) -> Array:
    """The network's input (C, *S) float32: normalized, then resampled.

    ``previous`` is the previous stage's label map on the scan's grid, axes in the order of the plans; each of
    its labels becomes a channel.
    """
    target = network_spacing(cropped, stage)
    shape = new_shape(cropped.shape, cropped.spacing, target)
    labels, mask = None, cropped.inside
    if previous is not None:
        labels = previous[cropped.box].astype(np.int16)
        labels[(labels == 0) & ~mask] = -1
        mask = labels >= 0
    image = np.stack([normalize(c, n, mask) for c, n in zip(cropped.image, stage.normalize, strict=True)])
    image = resample_image(image, shape, cropped.spacing, target, stage.resample_image)
    if labels is None:
        return image
    labels = resample_labels(labels, shape, cropped.spacing, target, stage.resample_labels)
    return np.concatenate([image, *((labels == value)[None] for value in stage.previous_labels)])


def normalize(channel: Array, how: Normalization, mask: Array) -> Array:
    """One channel (*S) float32, scaled; single precision throughout, as nnU-Net.

    Raises: DataError if a picture's values are not 0…255 where they have to be.
    """
    least = np.float32(_EPSILON)
    if how.scheme == "ct":
        clipped = np.clip(channel, how.low, how.high)
        return (clipped - np.float32(how.mean)) / max(np.float32(how.std), least)
    if how.scheme == "zscore" and how.masked:
        part, scaled = channel[mask], channel.copy()
        scaled[mask] = (part - part.mean()) / max(part.std(), least)
        return scaled
    if how.scheme == "zscore":
        return (channel - channel.mean()) / max(channel.std(), least)
    if how.scheme == "range":
        above = channel - channel.min()
        return above / max(above.max(), least)
    if how.scheme == "rgb":
        if channel.min() < 0 or channel.max() > 255:
            raise DataError(f"values from {channel.min():g} to {channel.max():g}; this model takes 0 to 255")
        return channel / np.float32(255)
    return channel


def put_back(part: Array, cropped: Cropped, stage: Stage, scan: Scan) -> Array:
    """Voxels (N, *S) of the cropped part on the scan's own grid; around it 0."""
    whole = np.zeros((len(part), *cropped.whole), part.dtype)
    whole[(slice(None), *cropped.box)] = part
    return np.ascontiguousarray(in_scan_order(whole, stage, scan))


def in_scan_order(whole: Array, stage: Stage, scan: Scan) -> Array:
    """Voxels (N, *S) of the whole scan, their axes turned from the plans' order to the scan's: a view."""
    whole = whole.transpose(0, *(1 + axis for axis in backward(stage.transpose)))
    if stage.reader == "picture":
        return whole[:, 0]
    whole = whole.transpose(0, 3, 2, 1)
    return from_ras(whole, scan.grid) if stage.reader == "ras" else whole


def in_plans_order(label_map: Array, scan: Scan, stage: Stage) -> Array:
    """A label map on the scan's own grid, its axes in the order of the plans."""
    return _as_read(label_map[None], scan, stage)[0].transpose(stage.transpose)


def _as_read(array: Array, scan: Scan, stage: Stage) -> Array:
    """(C, Z, Y, X), as nnU-Net's reader gives it."""
    if stage.reader == "picture":
        return array[:, None]
    if stage.reader == "ras":
        array = to_ras(array, scan.grid.affine)[0]
    return array.transpose(0, 3, 2, 1)


def _spacing(scan: Scan, stage: Stage) -> tuple[float, ...]:
    """mm along Z, Y, X; of NIfTI and ITK files as their headers say, where ties of spacings count."""
    if stage.reader == "picture":
        return (_SLICE_OF_PICTURE, 1.0, 1.0)
    if isinstance(scan.header, nib.Nifti1Header):
        spacing = [abs(float(step)) for step in scan.header.get_zooms()[:3]]
    elif isinstance(scan.header, tuple):
        spacing = [abs(float(step)) for step in scan.header[0]]
    else:
        spacing = list(scan.grid.spacing)
    if stage.reader == "ras":
        becomes = io_orientation(scan.grid.affine)[:, 0]
        spacing = [spacing[int(np.flatnonzero(becomes == axis)[0])] for axis in range(3)]
    return tuple(reversed(spacing))


def _box(inside: Array) -> tuple[slice, ...]:
    """The smallest box around all that is true; everything if nothing is."""
    box: list[slice] = []
    for axis in range(inside.ndim):
        others = tuple(a for a in range(inside.ndim) if a != axis)
        found = np.flatnonzero(inside.any(axis=others))
        box.append(slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, inside.shape[axis]))
    return tuple(box)
