"""From a scan's own grid to the grid a network works on, and back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch.nn.functional import interpolate

from medseg.config.base import Spec
from medseg.data.io.pictures import as_channels
from medseg.data.preprocessing.normalization import NormalizeConfig, ZScore
from medseg.data.scans import Scan, check_finite
from medseg.errors import DataError
from medseg.geometry import Array, Grid, from_ras, resampled_grid, same_spacing, to_ras

Spacing = Annotated[float, Field(ge=1e-6, le=1000)]
"""Distance between voxels, mm (pixels for pictures)."""


class SliceConfig(Spec):
    """A volume as a pile of pictures, for networks of two dimensions.

    Attributes:
        axis: of the volume after orientation, across which it is cut: 2 gives axial slices in RAS.
        neighbors: slices on either side that are channels too (the first and last are repeated).
    """

    axis: Literal[0, 1, 2] = 2
    neighbors: int = Field(default=0, ge=0, le=15)

    @property
    def thickness(self) -> int:
        """Slices a sample holds."""
        return 2 * self.neighbors + 1


class PreprocessConfig(Spec):
    """How a scan becomes a network's input.

    Attributes:
        orientation: ``RAS`` turns volumes so that their axes run to the right, anterior and superior;
            ``native`` keeps the file's own axis order.
        spacing: mm along each axis after orientation, from a nanometer to a meter; none keeps each scan's own.
        normalize: the intensity scheme.
        slices: how volumes are cut for a network of two dimensions; the prepared array then has the
            slices along its first axis.
    """

    orientation: Literal["RAS", "native"] = "RAS"
    spacing: tuple[Spacing, ...] | None = Field(default=None, min_length=2, max_length=3)
    normalize: NormalizeConfig = ZScore()
    slices: SliceConfig | None = None


@dataclass(frozen=True)
class Prepared:
    """A network's input (C, *S) float32, and the two grids it stands between.

    Attributes:
        array: the voxels; with ``slices`` the slicing axis comes first.
        grid: the grid of the voxels, axes in the scan's order after orientation.
        turned: the scan's grid after orientation, before resampling.
        slices: how the volume is cut, if it is.
        raw: the voxels before they were normalized, along the same axes.
        foreground: (*S) bool along the same axes: what lies outside is background; none: nothing is known to.
    """

    array: Array
    grid: Grid
    turned: Grid
    slices: SliceConfig | None = None
    raw: Array | None = field(default=None, repr=False)
    foreground: Array | None = field(default=None, repr=False)

    def inside(self, above: float | None, below: float | None = None) -> Array | None:
        """(*S) bool: the foreground where the scan is no background (:func:`inside_limits`); none without
        either.
        """
        if self.raw is None or (above is None and below is None):
            return self.foreground
        inside = inside_limits(self.raw, above, below)
        return inside if self.foreground is None else inside & self.foreground

    @property
    def resampled(self) -> bool:
        """Whether the voxels lie on another grid than the scan's."""
        return self.grid is not self.turned

    @property
    def spacing(self) -> tuple[float, ...]:
        """mm along each axis of ``array``."""
        spacing = list(self.grid.spacing)
        if self.slices is not None:
            spacing.insert(0, spacing.pop(self.slices.axis))
        return tuple(spacing)

    @property
    def target_shape(self) -> tuple[int, ...]:
        """Voxels of the scan's own grid, along the axes of ``array``."""
        shape = list(self.turned.shape)
        if self.slices is not None:
            shape.insert(0, shape.pop(self.slices.axis))
        return tuple(shape)


def inside_limits(raw: Array, above: float | None, below: float | None) -> Array:
    """(*S) bool of voxels (C, *S): where any channel is above the one value and any not above the other."""
    inside = np.ones(raw.shape[1:], bool)
    if above is not None:
        inside &= np.any(raw > above, axis=0)
    if below is not None:
        inside &= np.any(raw <= below, axis=0)
    return inside


def prepare_image(scan: Scan, config: PreprocessConfig, channels: int, *, keep_raw: bool = False) -> Prepared:
    """Check, orient, resample (linear) and normalize a scan.

    Raises: DataError if it has non-finite voxels or the wrong number of channels or axes.
    """
    prepared = resample_image(scan, config, channels)
    normalized = np.ascontiguousarray(config.normalize(prepared.array))
    return replace(prepared, array=normalized, raw=prepared.array if keep_raw else None)


def resample_image(scan: Scan, config: PreprocessConfig, channels: int) -> Prepared:
    """The same without normalizing: gray values, of the scan's own type where they are not resampled.

    The array is a view where nothing is resampled. Raises: as :func:`prepare_image`.
    """
    check_finite(scan)
    array, turned = _turn(as_channels(scan, channels), scan, config)
    grid = _target(turned, config, scan)
    if grid is not turned:
        array = resample(array.astype(np.float32), turned, grid, "bilinear")
    return Prepared(_slices_first(array, config), grid, turned, config.slices)


def prepare_label(label_map: Array, scan: Scan, config: PreprocessConfig) -> Array:
    """Bring a map of codes (*S) on ``scan``'s grid to the network's grid, by nearest neighbor."""
    array, turned = _turn(label_map[None], scan, config)
    grid = _target(turned, config, scan)
    if grid is not turned:
        array = resample(array, turned, grid, "nearest")
    return np.ascontiguousarray(_slices_first(array, config)[0])


def with_foreground(prepared: Prepared, foreground: Array, scan: Scan, config: PreprocessConfig) -> Prepared:
    """The same with what is not 0 in a mask (*S) on the scan's grid as its foreground.

    Raises: ValueError if the mask has another shape.
    """
    if foreground.shape != scan.grid.shape:
        raise ValueError(f"a foreground of {foreground.shape} voxels for a scan of {scan.grid.shape}")
    inside = prepare_label((foreground != 0).astype(np.uint8), scan, config) > 0
    return replace(prepared, foreground=inside)


def prepare_probabilities(soft: Array, scan: Scan, config: PreprocessConfig) -> Array:
    """Bring probabilities (K, *S) on ``scan``'s grid to the network's grid (linear)."""
    array, turned = _turn(soft, scan, config)
    grid = _target(turned, config, scan)
    if grid is not turned:
        array = resample(array, turned, grid, "bilinear")
    return np.ascontiguousarray(_slices_first(array, config))


def turn_back(array: Array, prepared: Prepared, scan: Scan, config: PreprocessConfig) -> Array:
    """Bring (N, *S) voxels of ``target_shape`` to the scan's own axes."""
    if prepared.slices is not None:
        array = np.moveaxis(array, 1, 1 + prepared.slices.axis)
    if scan.kind == "picture" or config.orientation == "native":
        return array
    return from_ras(array, scan.grid)


def resample(array: Array, source: Grid, target: Grid, mode: Literal["bilinear", "nearest"]) -> Array:
    """Resample (C, *S) voxels between two grids of one field of view (:func:`resampled_grid`), edges extended.

    The type of ``array`` is kept.
    """
    if array.shape[1:] != source.shape:
        raise ValueError(f"the array is {array.shape[1:]}, its grid {source.shape}")
    linear = "bilinear" if len(source.shape) == 2 else "trilinear"
    tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))[None]
    if mode == "nearest":
        moved = interpolate(tensor, size=target.shape, mode="nearest-exact")
    else:  # without aligned corners it is the outer faces of the voxels that stay in place
        moved = interpolate(tensor, size=target.shape, mode=linear, align_corners=False)
    return moved[0].numpy().astype(array.dtype)


def _slices_first(array: Array, config: PreprocessConfig) -> Array:
    return array if config.slices is None else np.moveaxis(array, 1 + config.slices.axis, 1)


def _turn(array: Array, scan: Scan, config: PreprocessConfig) -> tuple[Array, Grid]:
    if scan.kind == "picture" or config.orientation == "native":
        return array, scan.grid
    turned, affine = to_ras(array, scan.grid.affine)
    return turned, Grid(turned.shape[1:], affine)


def _target(turned: Grid, config: PreprocessConfig, scan: Scan) -> Grid:
    if config.spacing is None:
        return turned
    if len(config.spacing) != len(turned.shape):
        raise DataError(
            f"{scan.path}: has {len(turned.shape)} axes, preprocess.spacing has {len(config.spacing)} numbers"
        )
    if same_spacing(turned.spacing, config.spacing):
        return turned
    return resampled_grid(turned, config.spacing)
