"""Typed functions and protocols around libraries without type information.

The libraries are imported on first use, so importing ``medseg.metrics`` takes little longer than importing
NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.checks import BoolArray

FloatArray = NDArray[np.float64]


class PointTree(Protocol):
    """A k-d tree of points, as built by SciPy."""

    n: int

    def query(self, x: FloatArray, *, workers: int = 1) -> tuple[FloatArray, NDArray[np.intp]]:
        """Return distances to the nearest points and their indices (N,) for the points x (N, d)."""
        ...

    def query_ball_point(
        self, x: FloatArray, r: FloatArray, *, return_length: bool, workers: int = 1
    ) -> NDArray[np.intp]:
        """With ``return_length``, return the number of points within r (N,) of the points x (N, d)."""
        ...


def point_tree(points: FloatArray, leaf_size: int) -> PointTree:
    """Build a k-d tree of points (N, d), optimized for a single query."""
    spatial: Any = import_module("scipy.spatial")
    return spatial.cKDTree(points, leafsize=leaf_size, balanced_tree=False, compact_nodes=False)


def distance_to(targets: BoolArray, spacing: tuple[float, ...]) -> FloatArray:
    """Return the distance in mm from each voxel of a grid to the nearest true voxel of ``targets``."""
    ndimage: Any = import_module("scipy.ndimage")
    return ndimage.distance_transform_edt(~targets, sampling=spacing)


def value_boxes(labels: NDArray[Any], largest: int) -> Sequence[tuple[slice, ...] | None]:
    """Return the bounding boxes of the values 1 … ``largest`` of an array; None if a value is absent."""
    ndimage: Any = import_module("scipy.ndimage")
    return ndimage.find_objects(labels, largest)


def triangles(cube: NDArray[np.float32]) -> FloatArray:
    """Return the triangles (T, corner, axis) of marching cubes at level 0.5 (Lorensen & Cline 1987)."""
    measure: Any = import_module("skimage.measure")
    vertices, faces, _, _ = measure.marching_cubes(cube, 0.5, method="lorensen")
    return vertices[faces].astype(np.float64)


def skeleton(mask: BoolArray) -> BoolArray:
    """Return the skeleton of a mask with 2 or 3 axes, computed by scikit-image."""
    morphology: Any = import_module("skimage.morphology")
    return morphology.skeletonize(mask) != 0


def components(mask: BoolArray, connectivity: int | None = None) -> NDArray[np.integer[Any]]:
    """Number the connected components of a mask 1 … N; 0 is background.

    Args:
        mask: 2 or 3 axes.
        connectivity: number of neighbors; by default 8 in 2D, 26 in 3D.
    """
    cc3d: Any = import_module("cc3d")
    neighbors = connectivity or (8 if mask.ndim == 2 else 26)
    if not mask.size:
        return np.zeros(mask.shape, np.uint16)
    # of boolean arrays, cc3d 4.1 numbers wrong pixels in 2D and fails in 3D for some shapes
    return cc3d.connected_components(mask.view(np.uint8), connectivity=neighbors)


def component_boxes(labels: NDArray[np.integer[Any]], largest: int) -> Sequence[tuple[slice, ...]]:
    """Return the bounding boxes of the components 1 … ``largest``, all of which exist."""
    ndimage: Any = import_module("scipy.ndimage")
    return ndimage.find_objects(labels.astype(np.int64, copy=False), largest) if largest else []


def dilated(mask: BoolArray, iterations: int) -> BoolArray:
    """Dilate a mask repeatedly by the neighbors that differ in at most 2 axes."""
    ndimage: Any = import_module("scipy.ndimage")
    structure = ndimage.generate_binary_structure(mask.ndim, 2)
    return ndimage.binary_dilation(mask, structure, iterations)


def best_pairs(gains: FloatArray) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return rows and columns of the one-to-one assignment of a matrix (R, C) with the largest sum."""
    optimize: Any = import_module("scipy.optimize")
    return optimize.linear_sum_assignment(gains, maximize=True)
