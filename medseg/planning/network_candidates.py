"""Candidates for the network of a plan: from nnU-Net's down to what a small machine trains in minutes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medseg.planning.nnunet_rules import (
    LEAST_GAIN,
    LOW_RESOLUTION_BELOW,
    Configuration,
    coarser,
    initial_patch,
    shrink,
    voxel_share,
)
from medseg.planning.topology import Topology, build_topology

_WIDTHS = (32, 24, 16)
"""Features of the finest level, down to a width with which small networks are known to work."""
_SHRINK = 0.7
"""Factor on the voxels of a patch from one candidate to the next."""
_SHORTER = 0.75
"""Factor on the sides of the patches of a batch of twice the size."""
_TOLERANCE = 1.05
_COMFORT = {2: (2, 256**2), 3: (2, 64**3)}
"""Batch size and voxels of a patch below which candidates only go if the time forces them to."""
_MIN_VOXELS = {2: 96**2, 3: 32**3}
_MOST_FEATURES = {2: 512, 3: 320}


@dataclass(frozen=True)
class Candidate:
    """A network, its patch and its batch.

    Attributes:
        topology: patch and levels.
        batch_size: patches in a batch.
        spacing: of the voxels, mm.
        median_shape: of the resampled scans.
        comfortable: whether batch, width and patch are such that short trainings are known to work with them.
    """

    topology: Topology
    batch_size: int
    spacing: tuple[float, ...]
    median_shape: tuple[float, ...]
    comfortable: bool = True

    @property
    def coverage(self) -> float:
        """Share of the median scan that a patch covers."""
        return voxel_share(self.topology.patch_size, self.median_shape)

    def work(self, channels: int, classes: int) -> float:
        """Return the multiplications of an update: a backward pass costs two forward passes."""
        return 3.0 * self.batch_size * self.topology.multiply_adds(channels, classes)

    def feature_elements(self, classes: int) -> int:
        """Return the elements of the feature maps of a batch."""
        return self.batch_size * self.topology.feature_elements(classes)


@dataclass(frozen=True)
class LadderLimits:
    """What restricts the candidates.

    Attributes:
        max_levels: largest number of levels.
        max_coarsening: largest factor on the spacing.
        usual_voxels: voxels of the patch that nnU-Net plans for 8 GB; larger patches shrink to it before the
            width does.
        half_resolution: whether networks may compute at half the resolution of the image before their patch
            shrinks; their logits are interpolated.
        outlines: whether such networks have a thin level at the resolution of the image, and twice as many,
            smaller patches in a batch: for objects, whose outlines count.
    """

    max_levels: int = 99
    max_coarsening: float = 1.0
    usual_voxels: float = math.inf
    half_resolution: bool = False
    outlines: bool = False


def candidate_ladder(start: Configuration, limits: LadderLimits) -> list[Candidate]:
    """List the candidates, from the most to the least costly.

    First the batch shrinks, then a patch above the usual size, then the width, then (within the limits) the
    resolution of the network, which costs a quarter and may be wide again, then the patch. While the patch
    shrinks below the usual size, the spacing becomes coarser within the limits, so that a patch keeps covering
    a quarter of a scan. The last candidates, with still smaller patches and widths, are not comfortable: only a
    very short time justifies them.

    Args:
        start: nnU-Net's plan for the memory of the device.
        limits: what restricts the candidates.
    """
    dims = len(start.spacing)
    batch, comfort = _COMFORT[dims]
    build, deeper = _builder(limits.max_levels, dims), _builder(limits.max_levels + 1, dims)
    full = build(start.topology.patch_size, start.spacing)
    usual = min(limits.usual_voxels, full.voxels)
    floor = min(comfort, usual)

    def at(voxels: float, base: int, batch_size: int, comfortable: bool = True) -> Candidate:
        spacing, shape = _coarsen(start, voxels, limits.max_coarsening if voxels < usual else 1.0)
        topology = full if voxels >= full.voxels else fit_patch(voxels, spacing, shape, build)
        topology = topology.with_features(base, _MOST_FEATURES[dims])
        return Candidate(topology, batch_size, spacing, shape, comfortable)

    ladder = [at(full.voxels, _WIDTHS[0], n) for n in _halved(start.batch_size, batch)]
    least = ladder[-1].batch_size
    ladder += [at(n, _WIDTHS[0], least) for n in _shrinking(full.voxels, usual)]
    ladder += [at(usual, width, least) for width in _WIDTHS[1:]]
    smaller = [at(n, _WIDTHS[-1], batch) for n in _shrinking(usual, floor)]
    small = _shrinking(floor, min(_MIN_VOXELS[dims], floor))
    smaller += [at(n, max(8, 16 - 4 * step), batch, False) for step, n in enumerate(small)]
    if limits.half_resolution:
        change = _with_thin_level if limits.outlines else _at_half_resolution
        smaller = [change(one, deeper) for one in [*(at(usual, n, least) for n in _WIDTHS), *smaller]]
    return _distinct(ladder + smaller)


def _at_half_resolution(
    candidate: Candidate, deeper: Callable[[Sequence[float], Sequence[float]], Topology]
) -> Candidate:
    """Return a candidate with the same patch and first width whose network computes at half the resolution."""
    topology = deeper(candidate.topology.patch_size, candidate.spacing)
    if topology.levels < 3:
        return candidate
    base = candidate.topology.features[0]
    return replace(
        candidate, topology=topology.halved().with_features(base, _MOST_FEATURES[len(candidate.spacing)])
    )


def _with_thin_level(
    candidate: Candidate, deeper: Callable[[Sequence[float], Sequence[float]], Topology]
) -> Candidate:
    """Return a candidate that computes at half the resolution below a thin level at that of the image."""
    sides = [_SHORTER * side for side in candidate.topology.patch_size]
    topology = deeper(sides, candidate.spacing)
    if topology.levels < 3:
        return candidate
    topology = topology.thinned().with_features(
        candidate.topology.features[0], _MOST_FEATURES[len(candidate.spacing)]
    )
    return replace(candidate, topology=topology, batch_size=2 * candidate.batch_size)


def fit_patch(
    voxels: float,
    spacing: Sequence[float],
    median_shape: Sequence[float],
    build: Callable[[Sequence[float], Sequence[float]], Topology],
) -> Topology:
    """Plan the largest patch of about ``voxels`` with nnU-Net's proportions."""
    topology = build(initial_patch(spacing, median_shape), spacing)
    while topology.voxels > voxels * _TOLERANCE:
        smaller = shrink(topology, spacing, median_shape, build)
        if min(smaller.patch_size) < 1 or smaller.voxels >= topology.voxels:
            break
        topology = smaller
    return topology


def first_stage(second: Candidate, max_levels: int = 99) -> Candidate | None:
    """Plan the first stage of a cascade: patches of as many voxels as in the second, a quarter of a scan.

    Args:
        second: the network of the second stage.
        max_levels: largest number of levels.

    Returns:
        None if that spacing divides the voxels of a scan by less than 2 (nnU-Net's rule).
    """
    fine, shape = np.array(second.spacing), np.array(second.median_shape)
    spacing, voxels = fine.copy(), second.topology.voxels
    while voxels / float(np.prod(fine / spacing * shape)) < LOW_RESOLUTION_BELOW:
        spacing = coarser(spacing)
    coarse = np.round(fine / spacing * shape)
    if math.prod(second.median_shape) / float(np.prod(coarse)) < LEAST_GAIN:
        return None
    dims = len(spacing)
    topology = fit_patch(voxels, spacing.tolist(), coarse.tolist(), _builder(max_levels, dims))
    topology = topology.with_features(second.topology.features[0], _MOST_FEATURES[dims])
    return Candidate(
        topology, second.batch_size, tuple(spacing.tolist()), tuple(coarse.tolist()), second.comfortable
    )


def _builder(max_levels: int, dims: int) -> Callable[[Sequence[float], Sequence[float]], Topology]:
    most = _MOST_FEATURES[dims]
    return lambda size, spacing: build_topology(size, spacing, most=most, max_levels=max_levels)


def _coarsen(
    start: Configuration, voxels: float, max_factor: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the spacing and the median shape at which ``voxels`` are a quarter of a scan, within a limit."""
    fine, shape = np.array(start.spacing), np.array(start.median_shape)
    spacing = fine.copy()
    wanted = min(LOW_RESOLUTION_BELOW, start.topology.voxels / math.prod(start.median_shape))
    while voxels / float(np.prod(fine / spacing * shape)) < wanted:
        following = coarser(spacing)
        if float((following / fine).max()) > max_factor:
            break
        spacing = following
    resampled = shape if np.array_equal(spacing, fine) else np.round(fine / spacing * shape)
    return tuple(spacing.tolist()), tuple(resampled.tolist())


def _halved(batch_size: int, least: int) -> list[int]:
    """Return a batch size and its halves, down to ``least``."""
    sizes = [batch_size]
    while sizes[-1] > least:
        sizes.append(max(least, sizes[-1] // 2))
    return sizes


def _shrinking(start: float, end: float) -> list[float]:
    """Return sizes below ``start`` that shrink step by step to ``end``; none if it is not smaller."""
    sizes: list[float] = []
    size = start
    while size > end:
        size = max(size * _SHRINK, end)
        sizes.append(size)
    return sizes


def _distinct(ladder: list[Candidate]) -> list[Candidate]:
    """Drop candidates that equal the one before, or do more work than it."""
    kept = ladder[:1]
    for one in ladder[1:]:
        if one.work(1, 2) < kept[-1].work(1, 2):
            kept.append(one)
    return kept
