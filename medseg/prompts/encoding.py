"""Prompts as channels of a network's input."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon

from medseg.prompts.frame import Frame
from medseg.prompts.prompts import Box, Lasso, Point, Prompt, Scribble

PROMPT_CHANNELS = 7
"""Channels that a network receives beside the image: the previous mask, then a positive and a negative one each
for points, for areas (boxes and lassos) and for scribbles."""

FULL = 255
"""Value of a marked voxel."""

_POINTS, _AREAS, _SCRIBBLES = 1, 3, 5
_SIGMA = 2.0
"""Standard deviation of the spot that marks a point, in voxels of the window."""

Channels = NDArray[np.uint8]


def empty_channels(shape: tuple[int, ...]) -> Channels:
    """Return the channels (7, *W) of a window without prompts and without a mask."""
    return np.zeros((PROMPT_CHANNELS, *shape), np.uint8)


def set_mask(channels: Channels, mask: NDArray[np.bool_]) -> None:
    """Set the previous mask (*W) in the channels (7, *W)."""
    np.multiply(mask, FULL, out=channels[0], casting="unsafe")


def draw_prompts(channels: Channels, prompts: Iterable[Prompt], frame: Frame) -> None:
    """Draw prompts into the channels (7, *W) of a window; what lies outside is left out.

    A point is a Gaussian spot around its position, which shows where exactly it is; areas are filled; scribbles
    are lines of voxels.

    Args:
        channels: uint8, 255 for a marked voxel.
        prompts: in voxels of the scan.
        frame: where the window lies in the scan.
    """
    for prompt in prompts:
        sign = 0 if prompt.positive else 1
        if isinstance(prompt, Point):
            _draw_point(channels[_POINTS + sign], prompt, frame)
        elif isinstance(prompt, Box):
            _draw_box(channels[_AREAS + sign], prompt, frame)
        elif isinstance(prompt, Lasso):
            _draw_lasso(channels[_AREAS + sign], prompt, frame)
        else:
            _draw_scribble(channels[_SCRIBBLES + sign], prompt, frame)


def _draw_point(channel: Channels, point: Point, frame: Frame) -> None:
    center = frame.positions(np.array([point.position]))[0]
    first = [max(0, ceil(c - 3 * _SIGMA)) for c in center]
    stop = [min(n, int(c + 3 * _SIGMA) + 1) for n, c in zip(channel.shape, center, strict=True)]
    if any(a >= b for a, b in zip(first, stop, strict=True)):
        return
    spot = np.ones((1,) * channel.ndim)
    for axis, (a, b, c) in enumerate(zip(first, stop, center, strict=True)):
        profile = np.exp(-((np.arange(a, b) - c) ** 2) / (2 * _SIGMA**2))
        spot = spot * profile.reshape([-1 if i == axis else 1 for i in range(channel.ndim)])
    part = channel[tuple(slice(a, b) for a, b in zip(first, stop, strict=True))]
    np.maximum(part, np.rint(FULL * spot).astype(np.uint8), out=part)


def _draw_box(channel: Channels, box: Box, frame: Frame) -> None:
    first, stop = frame.box(np.array(box.lower, np.float64), np.array(box.upper, np.float64))
    channel[tuple(slice(max(int(a), 0), max(int(b), 0)) for a, b in zip(first, stop, strict=True))] = FULL


def _draw_scribble(channel: Channels, scribble: Scribble, frame: Frame) -> None:
    """Mark each voxel of the window that a voxel of the scribble covers, at least one."""
    voxels = np.asarray(scribble.voxels, np.float64).reshape(-1, channel.ndim)
    parts = np.ones(channel.ndim, int)
    parts[list(frame.axes)] = [max(1, ceil(s)) for s in frame.scale]
    steps = np.meshgrid(*[(np.arange(n) + 0.5) / n for n in parts], indexing="ij")
    inside = np.stack([step.ravel() for step in steps], axis=1)
    edges = (voxels[:, None] + inside[None]).reshape(-1, channel.ndim)
    places = np.floor(frame.faces(edges)).astype(np.int64)
    kept = ((places >= 0) & (places < np.array(channel.shape))).all(axis=1)
    channel[tuple(places[kept].T)] = FULL


def _draw_lasso(channel: Channels, lasso: Lasso, frame: Frame) -> None:
    vertices = np.asarray(lasso.vertices, np.float64).reshape(-1, 2)
    if lasso.axis is None:
        placed = frame.positions(vertices)
        channel[polygon(placed[:, 0], placed[:, 1], channel.shape)] = FULL
        return
    index = float(lasso.index or 0)
    whole = np.insert(vertices, lasso.axis, index, axis=1)
    placed = frame.positions(whole)
    across = frame.axes.index(lasso.axis)
    lower, upper = np.zeros(channel.ndim), np.zeros(channel.ndim)
    lower[lasso.axis], upper[lasso.axis] = index, index + 1
    first, stop = frame.box(lower, upper)
    planes = slice(max(int(first[across]), 0), max(int(stop[across]), 0))
    flat = np.delete(placed, across, axis=1)
    rows, columns = polygon(flat[:, 0], flat[:, 1], tuple(np.delete(channel.shape, across)))
    np.moveaxis(channel, across, 0)[planes, rows, columns] = FULL
