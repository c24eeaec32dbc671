"""Preprocessing: from a scan's grid to the grid and intensities that a network works on, and back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch.nn.functional import interpolate

from medseg.config.base import Spec
from medseg.data.io.pictures import convert_channels
from medseg.data.preprocessing.normalization import NormalizeConfig, ZScore
from medseg.data.scans import Scan, check_finite
from medseg.errors import DataError
from medseg.geometry import Array, Grid, from_ras, resampled_grid, same_spacing, to_ras

Spacing = Annotated[float, Field(ge=1e-6, le=1000)]
"""Distance between voxels, mm (pixels for pictures)."""


class SliceConfig(Spec):
    """Treat a volume as a stack of 2D slices, for 2D networks.

    Attributes:
        axis: axis of the oriented volume that is perpendicular to the slices; 2 gives axial slices in RAS.
        neighbors: number of adjacent slices on either side that are added as channels (the first and last
            slices are repeated at the ends).
    """

    axis: Literal[0, 1, 2] = 2
    neighbors: int = Field(default=0, ge=0, le=15)

    @property
    def thickness(self) -> int:
        """Number of slices in a sample."""
        return 2 * self.neighbors + 1


class PreprocessConfig(Spec):
    """How a scan becomes the input of a network.

    Attributes:
        orientation: ``RAS`` reorients volumes so that their axes run to the right, anterior and superior;
            ``native`` keeps the axis order of the file.
        spacing: spacing along each axis after orientation, in mm (1e-6 to 1000). If None, each scan keeps its
            own spacing.
        normalize: intensity normalization.
        slices: how volumes are cut for 2D networks; the prepared array then has the slices along its first
            spatial axis.

    Example:
        >>> config = PreprocessConfig(spacing=(1.0, 1.0, 3.0))
        >>> config.normalize.name
        'zscore'
    """

    orientation: Literal["RAS", "native"] = "RAS"
    spacing: tuple[Spacing, ...] | None = Field(default=None, min_length=2, max_length=3)
    normalize: NormalizeConfig = ZScore()
    slices: SliceConfig | None = None


@dataclass(frozen=True)
class PreparedImage:
    """The input of a network, with the grids needed to bring results back to the scan.

    Attributes:
        array: (C, *S) float32 voxels; if ``slices`` is set, the slicing axis is the first spatial axis.
        grid: grid of the voxels, with the axis order of ``reoriented``.
        reoriented: the scan's grid after orientation, before resampling.
        slices: how the volume is cut, if it is.
        raw: (C, *S) voxels before normalization, with the axis order of ``array``.
        foreground: (*S) bool with the axis order of ``array``; voxels outside are background. None if no mask
            is given.
        masks: (*S) codes of the masks that the network also receives (:mod:`medseg.data.preprocessing.masks`);
            None for networks that receive the image alone.
    """

    array: Array
    grid: Grid
    reoriented: Grid
    slices: SliceConfig | None = None
    raw: Array | None = field(default=None, repr=False)
    foreground: Array | None = field(default=None, repr=False)
    masks: Array | None = field(default=None, repr=False)

    def foreground_mask(self, above: float | None, below: float | None = None) -> Array | None:
        """Combine the given foreground with intensity limits (see :func:`intensity_mask`).

        Returns:
            (*S) bool, or None if there is neither a foreground nor a limit.
        """
        if self.raw is None or (above is None and below is None):
            return self.foreground
        inside = intensity_mask(self.raw, above, below)
        return inside if self.foreground is None else inside & self.foreground

    @property
    def resampled(self) -> bool:
        """Whether the voxels lie on another grid than the scan's."""
        return self.grid is not self.reoriented

    @property
    def spacing(self) -> tuple[float, ...]:
        """Spacing along each spatial axis of ``array``, mm."""
        spacing = list(self.grid.spacing)
        if self.slices is not None:
            spacing.insert(0, spacing.pop(self.slices.axis))
        return tuple(spacing)

    @property
    def target_spacing(self) -> tuple[float, ...]:
        """Spacing of the scan's grid before resampling, mm, in the axis order of ``array``."""
        spacing = list(self.reoriented.spacing)
        if self.slices is not None:
            spacing.insert(0, spacing.pop(self.slices.axis))
        return tuple(spacing)

    @property
    def target_shape(self) -> tuple[int, ...]:
        """Shape of the scan's grid before resampling, in the axis order of ``array``."""
        shape = list(self.reoriented.shape)
        if self.slices is not None:
            shape.insert(0, shape.pop(self.slices.axis))
        return tuple(shape)


def intensity_mask(raw: Array, above: float | None, below: float | None) -> Array:
    """Mask voxels by their intensities.

    Args:
        raw: (C, *S) voxels before normalization.
        above: at least one channel must exceed this value; no lower limit if None.
        below: at least one channel must not exceed this value; no upper limit if None.

    Returns:
        (*S) bool.
    """
    inside = np.ones(raw.shape[1:], bool)
    if above is not None:
        inside &= np.any(raw > above, axis=0)
    if below is not None:
        inside &= np.any(raw <= below, axis=0)
    return inside


def prepare_image(
    scan: Scan, config: PreprocessConfig, channels: int, *, keep_raw: bool = False, factor: float = 1.0
) -> PreparedImage:
    """Check, reorient, resample (linear) and normalize a scan.

    Args:
        scan: the scan as read from its file.
        config: grid and intensities that the network works on.
        channels: input channels of the network.
        keep_raw: also return the voxels before normalization.
        factor: by which a picture is resized before it is normalized.

    Raises:
        DataError: if the scan has non-finite voxels or the wrong number of channels or axes.
    """
    prepared = resample_image(scan, config, channels)
    if factor != 1:
        prepared = _resize(prepared, factor)
    normalized = np.ascontiguousarray(config.normalize(prepared.array))
    return replace(prepared, array=normalized, raw=prepared.array if keep_raw else None)


def _resize(picture: PreparedImage, factor: float) -> PreparedImage:
    """Resize a picture (linear, smoothed before it is reduced)."""
    grid = resampled_grid(picture.reoriented, tuple(mm / factor for mm in picture.reoriented.spacing))
    return replace(picture, array=resize_picture(picture.array, grid.shape), grid=grid)


def resize_picture(array: Array, shape: tuple[int, ...]) -> Array:
    """Resize a picture (C, H, W) linearly to (C, *shape), without aliasing; returns float32."""
    tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))[None]
    resized = interpolate(tensor, size=shape, mode="bilinear", align_corners=False, antialias=True)
    return resized[0].numpy()


def resample_image(scan: Scan, config: PreprocessConfig, channels: int) -> PreparedImage:
    """Check, reorient and resample a scan without normalizing it.

    If the scan is not resampled, the array keeps the scan's data type and is a view of its voxels.

    Raises:
        DataError: as :func:`prepare_image`.
    """
    check_finite(scan)
    array, reoriented = _reorient(convert_channels(scan, channels), scan, config)
    grid = _target_grid(reoriented, config, scan)
    if grid is not reoriented:
        array = resample(array.astype(np.float32), reoriented, grid, "bilinear")
    return PreparedImage(_move_slices_first(array, config), grid, reoriented, config.slices)


def prepare_label_map(label_map: Array, scan: Scan, config: PreprocessConfig) -> Array:
    """Bring an encoded label map (*S) on the grid of ``scan`` to the network's grid (nearest neighbor)."""
    array, reoriented = _reorient(label_map[None], scan, config)
    grid = _target_grid(reoriented, config, scan)
    if grid is not reoriented:
        array = resample(array, reoriented, grid, "nearest")
    return np.ascontiguousarray(_move_slices_first(array, config)[0])


def prepare_probabilities(probabilities: Array, scan: Scan, config: PreprocessConfig) -> Array:
    """Bring probabilities (K, *S) on the grid of ``scan`` to the network's grid (linear)."""
    array, reoriented = _reorient(probabilities, scan, config)
    grid = _target_grid(reoriented, config, scan)
    if grid is not reoriented:
        array = resample(array, reoriented, grid, "bilinear")
    return np.ascontiguousarray(_move_slices_first(array, config))


def with_foreground(
    prepared: PreparedImage, foreground: Array, scan: Scan, config: PreprocessConfig
) -> PreparedImage:
    """Add a foreground mask to a prepared image.

    Args:
        prepared: the image that was prepared from ``scan`` with ``config``.
        foreground: (*S) on the grid of ``scan``; nonzero voxels are foreground.
        scan: the scan.
        config: the preprocessing.

    Raises:
        ValueError: if the mask and the scan have different shapes.
    """
    if foreground.shape != scan.grid.shape:
        raise ValueError(f"foreground mask of shape {foreground.shape} for a scan of shape {scan.grid.shape}")
    inside = prepare_label_map((foreground != 0).astype(np.uint8), scan, config) > 0
    shape = prepared.array.shape[1:]
    if inside.shape != shape:  # a resized picture
        mask = torch.from_numpy(inside.astype(np.float32))[None, None]
        inside = interpolate(mask, size=shape, mode="nearest-exact")[0, 0].numpy() > 0
    return replace(prepared, foreground=inside)


def restore_orientation(array: Array, prepared: PreparedImage, scan: Scan, config: PreprocessConfig) -> Array:
    """Bring an (N, *S) array with ``*S = prepared.target_shape`` back to the axis order of the scan."""
    if prepared.slices is not None:
        array = np.moveaxis(array, 1, 1 + prepared.slices.axis)
    if scan.kind == "picture" or config.orientation == "native":
        return array
    return from_ras(array, scan.grid)


def resample(array: Array, source: Grid, target: Grid, mode: Literal["bilinear", "nearest"]) -> Array:
    """Resample a (C, *S) array between two grids with the same field of view (:func:`resampled_grid`).

    Edge values are extended; the data type of ``array`` is kept.

    Raises:
        ValueError: if the array does not have the shape of ``source``.
    """
    if array.shape[1:] != source.shape:
        raise ValueError(f"array of shape {array.shape[1:]} on a grid of shape {source.shape}")
    linear = "bilinear" if len(source.shape) == 2 else "trilinear"
    tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))[None]
    if mode == "nearest":
        resampled = interpolate(tensor, size=target.shape, mode="nearest-exact")
    else:  # align_corners=False keeps the outer faces of the voxels in place
        resampled = interpolate(tensor, size=target.shape, mode=linear, align_corners=False)
    return resampled[0].numpy().astype(array.dtype)


def _move_slices_first(array: Array, config: PreprocessConfig) -> Array:
    return array if config.slices is None else np.moveaxis(array, 1 + config.slices.axis, 1)


def _reorient(array: Array, scan: Scan, config: PreprocessConfig) -> tuple[Array, Grid]:
    if scan.kind == "picture" or config.orientation == "native":
        return array, scan.grid
    reoriented, affine = to_ras(array, scan.grid.affine)
    return reoriented, Grid(reoriented.shape[1:], affine)


def _target_grid(reoriented: Grid, config: PreprocessConfig, scan: Scan) -> Grid:
    """The network's grid; ``reoriented`` itself (the same object) if the scan is not resampled."""
    if config.spacing is None:
        return reoriented
    if len(config.spacing) != len(reoriented.shape):
        raise DataError(
            f"{scan.path}: image with {len(reoriented.shape)} axes, but preprocess.spacing has "
            f"{len(config.spacing)} values"
        )
    if same_spacing(reoriented.spacing, config.spacing):
        return reoriented
    return resampled_grid(reoriented, config.spacing)
