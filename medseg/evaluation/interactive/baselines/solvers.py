"""Segmentation from seeds without learning, by scikit-image."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from medseg.evaluation.interactive.baselines.seeds import BoolArray, Seeds

Image = NDArray[np.float32]
"""(C, \\*S), each channel from 0 to 1."""
Solver = Callable[[Image, Seeds, tuple[float, ...]], BoolArray]
"""From an image, seeds and spacing to a mask (\\*S)."""


def walk_randomly(image: Image, seeds: Seeds, spacing: tuple[float, ...]) -> BoolArray:
    """Random walker (Grady 2006, doi:10.1109/TPAMI.2006.233), with scikit-image's default of beta, 130."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its solver
        found = _segmentation().random_walker(
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
    edges = _segmentation().inverse_gaussian_gradient(
        image.mean(axis=0).astype(np.float64), alpha=200.0, sigma=2.0
    )
    edges[seeds.background] = 0
    iterations = min(100, max(image.shape[1:]) // 2)
    grown = _segmentation().morphological_geodesic_active_contour(
        edges, iterations, _grow(seeds.object, 2), threshold="auto", balloon=1
    )
    return _connected(np.asarray(grown, bool) & ~seeds.background, seeds)


def evolve_chan_vese(image: Image, seeds: Seeds, spacing: tuple[float, ...]) -> BoolArray:
    """Active contour without edges (Chan and Vese 2001, doi:10.1109/83.902291; morphological, as above).

    It starts at the object's seeds; parts that no seed of the object touches are left out.
    """
    start = _grow(seeds.object, 3) & ~seeds.background
    gray = image.mean(axis=0).astype(np.float64)
    found = _segmentation().morphological_chan_vese(gray, 40, start, smoothing=1)
    return _connected(np.asarray(found, bool) & ~seeds.background, seeds)


def _segmentation() -> Any:
    return import_module("skimage.segmentation")


def _grow(mask: BoolArray, voxels: int) -> BoolArray:
    ndimage: Any = import_module("scipy.ndimage")
    return ndimage.binary_dilation(mask, iterations=voxels)


def _connected(mask: BoolArray, seeds: Seeds) -> BoolArray:
    """Keep the parts of a mask that seeds of the object touch."""
    parts = cc3d.connected_components(mask, connectivity=6 if mask.ndim == 3 else 4)
    kept = np.unique(parts[seeds.object & mask])
    return np.isin(parts, kept[kept > 0])
