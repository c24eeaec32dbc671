"""Short descriptions of images by which they are compared: appearance, extent and a coarse thumbnail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.ndimage import zoom
from scipy.spatial.distance import cdist

from medseg.data.curation.scan_features import gray_channels, measure_scan
from medseg.data.scans import Scan
from medseg.geometry import Array
from medseg.inference.shift.features import scan_values

_SIDE = {3: 6, 2: 12}
_SMALLEST_SPREAD = 1e-6


def describe_scan(scan: Scan) -> tuple[Array, Array]:
    """Return numbers that describe the appearance and extent of a scan, and a thumbnail of it.

    Intensities are relative to the scan's range, because the units of some modalities are arbitrary.
    """
    values = scan_values(scan.kind, scan.grid.shape, scan.grid.spacing, measure_scan(scan))
    kept = [value for name, value in values.items() if not name.startswith(("low", "middle", "high"))]
    return np.array(kept, dtype=np.float64), thumbnail(scan)


def thumbnail(scan: Scan) -> Array:
    """Return the first channel, reduced to a few voxels, with mean 0 and standard deviation 1."""
    channel = gray_channels(scan)[0].astype(np.float32)
    side = _SIDE[channel.ndim]
    step = tuple(slice(None, None, max(1, n // (4 * side))) for n in channel.shape)
    coarse = channel[step]
    small: Any = zoom(coarse, [side / n for n in coarse.shape], order=1, grid_mode=True, mode="nearest")
    flat = np.nan_to_num(small.ravel().astype(np.float64))
    spread = flat.std()
    return (flat - flat.mean()) / spread if spread > 0 else flat - flat.mean()


def distances(first: Sequence[tuple[Array, Array]], second: Sequence[tuple[Array, Array]]) -> Array:
    """Return the distances (N, M) between descriptions; both parts count alike.

    Args:
        first: N descriptions from :func:`describe_scan`.
        second: M descriptions.
    """
    total = np.zeros((len(first), len(second)))
    for part in (0, 1):
        a, b = (np.stack([one[part] for one in group]) for group in (first, second))
        both = np.concatenate([a, b])
        scale = np.maximum(both.std(axis=0), _SMALLEST_SPREAD)
        total += cdist(a / scale, b / scale, "sqeuclidean") / a.shape[1]
    return np.sqrt(total)


def farthest(
    described: Mapping[str, tuple[Array, Array]], candidates: Sequence[str], labeled: Sequence[str], count: int
) -> list[str]:
    """Choose candidates that are farthest from what is labeled and from each other.

    This is the greedy solution of the k-center problem (Sener and Savarese 2018, arXiv:1708.00489). Without
    labeled images, the first is the one in the middle of all.

    Args:
        described: id → description; those of other shapes than the first candidate's count as near.
        candidates: ids to choose from.
        labeled: ids of labeled images.
        count: how many to choose.
    """
    if not candidates:
        return []
    shape = _shape(described[candidates[0]])
    pool = [id for id in candidates if _shape(described[id]) == shape]
    known = [id for id in labeled if id in described and _shape(described[id]) == shape]
    own = distances([described[id] for id in pool], [described[id] for id in pool])
    if known:
        nearest = distances([described[id] for id in pool], [described[id] for id in known]).min(axis=1)
        chosen: list[int] = []
    else:
        chosen = [int(own.mean(axis=1).argmin())]
        nearest = own[:, chosen[0]].copy()
    while len(chosen) < min(count, len(pool)):
        nearest[chosen] = -1
        index = int(nearest.argmax())
        chosen.append(index)
        nearest = np.minimum(nearest, own[:, index])
    return [pool[index] for index in chosen[:count]]


def _shape(described: tuple[Array, Array]) -> tuple[int, int]:
    return len(described[0]), len(described[1])
