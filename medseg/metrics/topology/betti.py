"""Betti numbers of masks: components, holes or tunnels, and cavities."""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.checks import BoolArray, as_mask
from medseg.metrics.geometry.bounding_box import bounding_box
from medseg.metrics.geometry.surface_elements import CodeArray, neighbor_codes
from medseg.metrics.typed_wrappers import components


def betti_numbers(mask: NDArray[Any]) -> tuple[int, ...]:
    """Count the components, holes and cavities of a mask; outside the array is background.

    Foreground voxels are connected by 8 (2D) or 26 (3D) neighbors, background by 4 or 6.

    Args:
        mask: (*S), 2 or 3 axes; nonzero values are foreground.

    Returns:
        Components and holes (2D), or components, tunnels and cavities (3D).

    Raises:
        ValueError: if the mask does not have 2 or 3 axes.

    Example:
        >>> import numpy as np
        >>> ring = np.ones((3, 3)); ring[1, 1] = 0
        >>> betti_numbers(ring)
        (1, 1)
    """
    if mask.ndim not in (2, 3):
        raise ValueError(f"got an array of {mask.ndim} axes, expected 2 or 3")
    mask = as_mask(mask)
    cropped = np.ascontiguousarray(mask[bounding_box(mask)])
    return betti_from_codes(cropped, neighbor_codes(cropped), _count(components(cropped)))


def betti_from_codes(mask: BoolArray, codes: CodeArray, parts: int) -> tuple[int, ...]:
    """Return the Betti numbers of a mask from its ``neighbor_codes`` and number of components.

    The number of tunnels follows from the Euler characteristic, which is components − holes (2D) or
    components − tunnels + cavities (3D).
    """
    euler = euler_characteristic(codes)
    if mask.ndim == 2:
        return parts, parts - euler
    # the padding joins the outside to one component; the others are cavities
    cavities = _count(components(~np.pad(mask, 1), 6)) - 1
    return parts, parts + cavities - euler, cavities


def euler_characteristic(codes: CodeArray) -> int:
    """Return the Euler characteristic of a mask from its ``neighbor_codes``.

    Voxels are closed squares or cubes; vertices, edges, faces and cubes are counted with alternating signs.
    """
    histogram = np.bincount(codes.ravel(), minlength=2 ** (2**codes.ndim))
    return int(histogram @ _euler_contributions(codes.ndim)) // 2**codes.ndim


@lru_cache(maxsize=2)
def _euler_contributions(ndim: int) -> NDArray[np.int64]:
    """Return 2ᵈ times the contribution of each code: its cells, each divided by the vertices it has.

    A cell with k of the d axes fixed at the vertex spans the 2ᵏ voxels that agree with it in the other axes; it
    exists if one of them is foreground, has 2ᵈ⁻ᵏ vertices and d − k dimensions.
    """
    corners = list(product((0, 1), repeat=ndim))
    bits = {corner: sum(bit << (ndim - 1 - axis) for axis, bit in enumerate(corner)) for corner in corners}
    totals = np.zeros(2 ** (2**ndim), np.int64)
    codes = np.arange(len(totals))
    for cell in product((0, 1, None), repeat=ndim):  # None: the axis is fixed at the vertex
        around = sum(
            1 << bits[corner]
            for corner in corners
            if all(side is None or side == bit for side, bit in zip(cell, corner, strict=True))
        )
        fixed = cell.count(None)
        totals += ((codes & around) != 0) * (-1) ** (ndim - fixed) * 2**fixed
    return totals


def _count(labels: NDArray[np.integer[Any]]) -> int:
    return int(labels.max(initial=0))
