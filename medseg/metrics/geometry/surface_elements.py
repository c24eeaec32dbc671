"""Surface elements of a mask: positions and weights.

``surfel`` elements are on the grid shifted by half a voxel: every 2×2(×2) neighborhood that contains both
foreground and background is one, weighted by the length (mm) or area (mm²) of the marching-squares or
marching-cubes surface in it (Nikolov et al. 2021, doi:10.2196/26151). ``voxel`` elements are the
foreground voxels with a face neighbor in the background, all with the same weight.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from math import hypot

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.checks import BoolArray
from medseg.metrics.typed_wrappers import triangles

FloatArray = NDArray[np.float64]
CodeArray = NDArray[np.uint8]


def surfel_elements(codes: CodeArray) -> BoolArray:
    """Return the positions of the surfels among the ``neighbor_codes`` of a mask: those of mixed neighborhoods.

    Element ``i`` is between the voxels ``i - 1`` and ``i`` of the mask.
    """
    return (codes - np.uint8(1)) < np.uint8(2 ** (2**codes.ndim) - 2)  # code 0 wraps to 255


def voxel_elements(mask: BoolArray) -> BoolArray:
    """Return a mask (S) of the foreground voxels with a face neighbor in the background."""
    inner = mask.copy()
    for axis in range(mask.ndim):
        along, inside = np.moveaxis(mask, axis, 0), np.moveaxis(inner, axis, 0)
        inside[1:] &= along[:-1]
        inside[:-1] &= along[1:]
        inside[:1] = False
        inside[-1:] = False
    return mask & ~inner


def neighbor_codes(mask: BoolArray) -> CodeArray:
    """Return the codes (S + 1) of the 2×2(×2) neighborhoods of a mask (S) padded by background.

    The neighbor at offset (i, j) or (i, j, k) sets bit ``2i + j`` or ``4i + 2j + k``.
    """
    codes = np.pad(mask, 1).view(np.uint8)
    for bits, axis in enumerate(reversed(range(mask.ndim))):
        along = np.moveaxis(codes, axis, 0)
        codes = np.moveaxis(along[:-1] | (along[1:] << np.uint8(2**bits)), 0, axis)
    return codes


@lru_cache(maxsize=64)
def surfel_weights(spacing: tuple[float, ...]) -> FloatArray:
    """Return the weight of each neighbor code: length in mm (16 codes, 2D) or area in mm² (256 codes, 3D)."""
    weights = _contour_lengths(spacing) if len(spacing) == 2 else _surface_areas(spacing)
    weights.flags.writeable = False
    return weights


def _contour_lengths(spacing: tuple[float, ...]) -> FloatArray:
    """Return lengths by marching squares: one straight line, one cut corner, or two cut corners at a saddle."""
    rows, columns = spacing
    corner = hypot(rows, columns) / 2
    lengths = np.full(16, corner)
    lengths[[0b0000, 0b1111]] = 0.0
    lengths[[0b0011, 0b1100]] = columns  # one row is foreground: the line is parallel to it
    lengths[[0b0101, 0b1010]] = rows
    lengths[[0b0110, 0b1001]] = 2 * corner
    return lengths


def _surface_areas(spacing: tuple[float, ...]) -> FloatArray:
    """Return areas by marching cubes: area vectors scale with the spacing of the other axes."""
    x, y, z = spacing
    stretch = np.array([y * z, x * z, x * y])
    return np.array([np.linalg.norm(vectors * stretch, axis=1).sum() for vectors in _area_vectors()])


@lru_cache(maxsize=1)
def _area_vectors() -> tuple[FloatArray, ...]:
    """Return the area vectors (T, 3) of the triangles of each code, in a unit cube.

    At ambiguous faces, each corner of the minority is cut off separately, so that a code and its complement
    have the same surface: a mask and its background share one surface.
    """
    empty = np.zeros((0, 3))
    vectors = [empty] * 256
    for code in range(1, 255):
        minority = code if code.bit_count() <= 4 else 255 - code
        cube = np.zeros((2, 2, 2), np.float32)
        for corner in product((0, 1), repeat=3):
            cube[corner] = minority >> (4 * corner[0] + 2 * corner[1] + corner[2]) & 1
        corners = triangles(cube)
        edges = corners[:, 1:] - corners[:, :1]
        vectors[code] = np.cross(edges[:, 0], edges[:, 1]) / 2
    return tuple(vectors)
