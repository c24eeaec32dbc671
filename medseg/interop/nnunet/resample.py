"""Interpolation of nnU-Net between the grid of a scan and that of a network.

Both grids have the same field of view. If one axis is much coarser than the others, each slice is interpolated
separately, and along the coarse axis the nearest slice is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from skimage.transform import resize

from medseg.geometry import Array
from medseg.inference.sliding_window.output_chunk import OutputChunk
from medseg.inference.sliding_window.streaming_resample import resample_chunks
from medseg.interop.nnunet.header import Resampling
from medseg.models.layers.padding import linear_mode

Spacing = Sequence[float]
Shape = tuple[int, ...]


def resampled_shape(shape: Shape, current: Spacing, target: Spacing) -> Shape:
    """Shape of a grid at another spacing, mm, rounded.

    Example:
        >>> resampled_shape((10, 10, 4), (1.0, 1.0, 5.0), (2.0, 2.0, 2.0))
        (5, 5, 10)
    """
    return tuple(round(a / b * n) for a, b, n in zip(current, target, shape, strict=True))


def coarse_axis(current: Spacing, target: Spacing, how: Resampling) -> int | None:
    """The axis along which slices are interpolated separately; None unless there is exactly one."""
    if how.separate is None:
        candidates = [s for s in (current, target) if max(s) / min(s) > how.threshold]
    else:
        candidates = [current] if how.separate else []
    if not candidates:
        return None
    axes = [axis for axis, step in enumerate(candidates[0]) if step == max(candidates[0])]
    return axes[0] if len(axes) == 1 else None


def resample_image(image: Array, shape: Shape, current: Spacing, target: Spacing, how: Resampling) -> Array:
    """Resample an image (C, *S) float32 to a grid of ``shape``."""
    if image.shape[1:] == shape:
        return image
    axis = coarse_axis(current, target, how)
    resized = np.empty((len(image), *shape), np.float32)
    for channel, out in zip(image, resized, strict=True):
        out[...] = _by_slices(channel, shape, axis, lambda one, size: _interpolated(one, size, how))
    return resized


def resample_labels(labels: Array, shape: Shape, current: Spacing, target: Spacing, how: Resampling) -> Array:
    """Resample a label map (*S) to a grid of ``shape``: the label whose interpolated mask is highest."""
    if labels.shape == shape:
        return labels
    axis = coarse_axis(current, target, how)
    return _by_slices(labels, shape, axis, lambda one, size: _label_of_highest_mask(one, size, how))


def regrid_logits(
    slabs: Iterable[OutputChunk],
    source: Shape,
    shape: Shape,
    current: Spacing,
    target: Spacing,
    how: Resampling,
) -> Iterator[OutputChunk]:
    """Resample logits (K, *S) to a grid of ``shape``, a few planes at a time."""
    if source == shape:
        yield from slabs
        return
    axis = coarse_axis(current, target, how)
    if axis is None:
        yield from resample_chunks(slabs, source, shape)
        return
    within = (*shape[:axis], source[axis], *shape[axis + 1 :])
    nearest_planes = nearest(source[axis], shape[axis])
    for slab in resample_chunks(slabs, source, within):
        if slab.axis != axis:
            taken = _select_planes(slab.tensor, nearest_planes, axis)
            yield OutputChunk.of_planes(taken, slab.start, slab.axis)
            continue
        here = [i for i, plane in enumerate(nearest_planes) if slab.start <= plane < slab.stop]
        if here:
            own = [nearest_planes[i] - slab.start for i in here]
            yield OutputChunk.of_planes(_select_planes(slab.tensor, own, axis), here[0], axis)


def nearest(source: int, target: int) -> list[int]:
    """Index of the nearest of ``source`` planes for each of ``target`` planes over the same length.

    Example:
        >>> nearest(2, 4)
        [0, 0, 1, 1]
    """
    return [min(source - 1, math.floor(source / target * (i + 0.5) - 0.5 + 0.5)) for i in range(target)]


def _select_planes(scores: torch.Tensor, planes: list[int], axis: int) -> torch.Tensor:
    return scores.index_select(1 + axis, torch.tensor(planes, device=scores.device))


def _by_slices(
    volume: Array, shape: Shape, axis: int | None, interpolate: Callable[[Array, Shape], Array]
) -> Array:
    """Interpolate a volume (*S) as a whole, or slice by slice along ``axis``."""
    if axis is None:
        return interpolate(volume, shape)
    size = (*shape[:axis], *shape[axis + 1 :])
    slices = [interpolate(one, size) for one in np.moveaxis(volume, axis, 0)]
    return np.stack([slices[i] for i in nearest(len(slices), shape[axis])], axis=axis)


def _interpolated(voxels: Array, shape: Shape, how: Resampling) -> Array:
    if how.method == "torch":
        given = torch.from_numpy(np.ascontiguousarray(voxels, np.float32))[None, None]
        return F.interpolate(given, shape, mode=linear_mode(len(shape)), align_corners=False)[0, 0].numpy()
    return _spline(voxels, shape, how.order)


def _spline(voxels: Array, shape: Shape, order: int) -> Array:
    return np.asarray(resize(voxels.astype(np.float64), shape, order, mode="edge", anti_aliasing=False))


def _label_of_highest_mask(labels: Array, shape: Shape, how: Resampling) -> Array:
    """Choose the label with the highest interpolated mask; the nearest label wins ties (torch: the lowest)."""
    values = np.unique(labels)
    if len(values) == 1:
        return np.full(shape, values[0], labels.dtype)
    spline = how.method == "spline"
    near = _spline(labels, shape, 0)
    best, result = np.full(shape, -np.inf), np.empty(shape, labels.dtype)
    of_near = np.full(shape, -np.inf)
    for value in values:
        score = _interpolated((labels == value).astype(np.float32), shape, how)
        score = (
            score if spline else (1000 * score).astype(np.float16)
        )  # the precision in which nnU-Net compares
        better = score > best
        best[better], result[better] = score[better], value
        own = near == value
        of_near[own] = score[own]
    if spline:
        tied = of_near == best
        result[tied] = near[tied].astype(labels.dtype)
    return result
