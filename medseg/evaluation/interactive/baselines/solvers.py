"""Segmentation from seeds without learning, by scikit-image."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import (
    inverse_gaussian_gradient,
    morphological_chan_vese,
    morphological_geodesic_active_contour,
    random_walker,
)

from medseg.evaluation.interactive.baselines.seeds import BoolArray, Seeds

Image = NDArray[np.float32]
"""(C, \\*S), each channel from 0 to 1."""
Solver = Callable[[Image, Seeds, tuple[float, ...]], BoolArray]
"""From an image, seeds and spacing to a mask (\\*S)."""


def walk_randomly(image: Image, seeds: Seeds, spacing: tuple[float, ...]) -> BoolArray:
    """Random walker (Grady 2006, doi:10.1109/TPAMI.2006.233), with scikit-image's default of beta, 130."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its solver
        found = random_walker(
            np.moveaxis(image, 0, -1),
            seeds.values.astype(np.int32),
            beta=130,
            mode="cg_j",
            spacing=np.array(spacing) / min(spacing),
            channel_axis=-1,
        )
    return np.asarray(found == 1)


def grow_geodesic_contour(image: Image, seeds: Seeds, spacing: tuple[float, ...]) -> BoolArray:
    """Geodesic active contour that grows from the object's seeds to edges (Caselles et al. 1997,
    doi:10.1023/A:1007979827043; morphological, Marquez-Neila et al. 2014, doi:10.1109/TPAMI.2013.106).
    """
    edges = inverse_gaussian_gradient(image.mean(axis=0).astype(np.float64), alpha=200.0, sigma=2.0)
    edges[seeds.background] = 0
    iterations = min(100, max(image.shape[1:]) // 2)
    grown = morphological_geodesic_active_contour(
        edges, iterations, ndimage.binary_dilation(seeds.object, iterations=2), threshold="auto", balloon=1
    )
    return _connected(grown.astype(bool) & ~seeds.background, seeds)


def evolve_chan_vese(image: Image, seeds: Seeds, spacing: tuple[float, ...]) -> BoolArray:
    """Active contour without edges (Chan and Vese 2001, doi:10.1109/83.902291; morphological, as above).

    It starts at the object's seeds; parts that no seed of the object touches are left out.
    """
    start = ndimage.binary_dilation(seeds.object, iterations=3) & ~seeds.background
    found = morphological_chan_vese(image.mean(axis=0).astype(np.float64), 40, start, smoothing=1)
    return _connected(found.astype(bool) & ~seeds.background, seeds)


def _connected(mask: BoolArray, seeds: Seeds) -> BoolArray:
    """Keep the parts of a mask that seeds of the object touch."""
    parts = cc3d.connected_components(mask, connectivity=6 if mask.ndim == 3 else 4)
    kept = np.unique(parts[seeds.object & mask])
    return np.isin(parts, kept[kept > 0])
