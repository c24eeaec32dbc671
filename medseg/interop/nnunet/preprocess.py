"""Preprocess scans for nnU-Net networks, and map label maps back to the axes of the scan."""

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
from medseg.interop.nnunet.plans import invert_permutation
from medseg.interop.nnunet.resample import resample_image, resample_labels, resampled_shape

_EPSILON = 1e-8
_SLICE_OF_PICTURE = 999.0
"""Slice distance that nnU-Net assigns to pictures, which have one slice."""


@dataclass(frozen=True)
class Cropped:
    """The bounding box of the non-zero part of a scan, with the axes in the order of the plans.

    Attributes:
        image: (C, *S) float32.
        inside: (*S) bool: voxels that are not zero in some channel, or enclosed by such voxels.
        box: position in the whole scan.
        whole: shape of the whole scan.
        spacing: spacing along these axes, mm.
    """

    image: Array
    inside: Array
    box: tuple[slice, ...]
    whole: tuple[int, ...]
    spacing: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of voxels along each axis."""
        return self.inside.shape


def crop(scan: Scan, stage: Stage) -> Cropped:
    """Crop a scan to its non-zero part.

    Raises:
        DataError: the number of channels or the kind of scan does not match, or voxels are NaN.
    """
    if (scan.kind == "picture") != (stage.reader == "picture"):
        expected = "pictures" if stage.reader == "picture" else "volumes"
        raise DataError(f"{scan.path}: a {scan.kind}; this model takes {expected}", path=scan.path)
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
    """Spacing of the network's grid, mm; 2D networks keep the distance between slices."""
    return stage.spacing if len(stage.spacing) == 3 else (cropped.spacing[0], *stage.spacing)


def prepare(cropped: Cropped, stage: Stage, previous: Array | None) -> Array:
    """Compute the network's input (C, *S) float32: normalize, then resample.

    Args:
        cropped: the scan.
        stage: the configuration.
        previous: label map of the previous stage on the scan's grid, with the axes in the order of the plans;
            each of its labels becomes a channel. None without a previous stage.
    """
    target = network_spacing(cropped, stage)
    shape = resampled_shape(cropped.shape, cropped.spacing, target)
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
    """Normalize one channel (*S) float32, in single precision as nnU-Net does.

    Raises:
        DataError: the ``rgb`` scheme gets values outside 0…255.
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


def restore_crop(part: Array, cropped: Cropped, stage: Stage, scan: Scan) -> Array:
    """Insert voxels (N, *S) of the cropped part into the scan's grid; zero elsewhere."""
    whole = np.zeros((len(part), *cropped.whole), part.dtype)
    whole[(slice(None), *cropped.box)] = part
    return np.ascontiguousarray(to_scan_order(whole, stage, scan))


def to_scan_order(whole: Array, stage: Stage, scan: Scan) -> Array:
    """Permute voxels (N, *S) of the whole scan from the axis order of the plans to that of the scan; a view."""
    whole = whole.transpose(0, *(1 + axis for axis in invert_permutation(stage.transpose)))
    if stage.reader == "picture":
        return whole[:, 0]
    whole = whole.transpose(0, 3, 2, 1)
    return from_ras(whole, scan.grid) if stage.reader == "ras" else whole


def to_plans_order(label_map: Array, scan: Scan, stage: Stage) -> Array:
    """Permute a label map on the scan's grid to the axis order of the plans."""
    return _as_read(label_map[None], scan, stage)[0].transpose(stage.transpose)


def _as_read(array: Array, scan: Scan, stage: Stage) -> Array:
    """Permute to (C, Z, Y, X), the order of nnU-Net's readers."""
    if stage.reader == "picture":
        return array[:, None]
    if stage.reader == "ras":
        array = to_ras(array, scan.grid.affine)[0]
    return array.transpose(0, 3, 2, 1)


def _spacing(scan: Scan, stage: Stage) -> tuple[float, ...]:
    """Spacing along Z, Y, X, mm; from the headers of NIfTI and ITK files, because equal spacings matter."""
    if stage.reader == "picture":
        return (_SLICE_OF_PICTURE, 1.0, 1.0)
    if isinstance(scan.header, nib.Nifti1Header):
        spacing = [abs(float(step)) for step in scan.header.get_zooms()[:3]]
    elif isinstance(scan.header, tuple):
        spacing = [abs(float(step)) for step in scan.header[0]]
    else:
        spacing = list(scan.grid.spacing)
    if stage.reader == "ras":
        ras_axes = io_orientation(scan.grid.affine)[:, 0]
        spacing = [spacing[int(np.flatnonzero(ras_axes == axis)[0])] for axis in range(3)]
    return tuple(reversed(spacing))


def _box(inside: Array) -> tuple[slice, ...]:
    """The bounding box of a mask; the whole array if the mask is empty."""
    box: list[slice] = []
    for axis in range(inside.ndim):
        others = tuple(a for a in range(inside.ndim) if a != axis)
        indices = np.flatnonzero(inside.any(axis=others))
        whole = slice(0, inside.shape[axis])
        box.append(slice(int(indices[0]), int(indices[-1]) + 1) if len(indices) else whole)
    return tuple(box)
