"""nnU-Net's plans: spacing, patch size, network and batch size from the sizes of a dataset's scans.

The rules are those of nnU-Net 2.8 (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z) with its plain U-Net.
They depend on nothing but the numbers given, so that tests compare them with plans that nnU-Net wrote. The axes
have nnU-Net's order: that of the array in the file, then the one with the coarsest spacing first
(:func:`transposition`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.planning.topology import Topology, build_topology

Floats = NDArray[np.float64]

ANISOTROPY = 3.0
"""Ratio from which the coarsest axis is treated separately."""
LOW_RESOLUTION_BELOW = 0.25
"""A stage of low resolution is planned if the patch has a smaller share of the median scan's voxels."""
LEAST_GAIN = 2.0
"""A stage of low resolution is dropped if it does not divide the voxels by this much."""
_SPACING_STEP = 1.03
_REFERENCE_ELEMENTS = {2: 85e6, 3: 560e6}
_REFERENCE_BATCH = {2: 12, 3: 2}
_REFERENCE_GB = 8.0
_INITIAL_EDGE = {2: 2048, 3: 256}
_MOST_FEATURES = {2: 512, 3: 320}
_BASE_FEATURES = 32
_MOST_OF_DATASET = 0.05
_MIN_BATCH = 2


@dataclass(frozen=True)
class DatasetSizes:
    """What the rules depend on.

    Attributes:
        spacings: (N, 3) spacing of each case, mm.
        shapes: (N, 3) voxels of each case.
        cases: number of training cases.
        classes: number of labels, the background included.
    """

    spacings: Floats
    shapes: Floats
    cases: int
    classes: int


@dataclass(frozen=True)
class Configuration:
    """The plan of one network.

    Attributes:
        spacing: of the voxels, mm.
        median_shape: of the resampled scans.
        topology: patch and network.
        batch_size: patches in a batch.
        batch_dice: whether the Dice loss is computed over the whole batch.
    """

    spacing: tuple[float, ...]
    median_shape: tuple[float, ...]
    topology: Topology
    batch_size: int
    batch_dice: bool = False


@dataclass(frozen=True)
class NnunetPlan:
    """The plans of a dataset.

    Attributes:
        transpose: order of the axes in the configurations: axis i is axis ``transpose[i]`` of the arrays.
        full_resolution: the 3D network; None if the scans have one slice.
        low_resolution: the first stage of a cascade; None if the patch covers enough of a scan.
        slices: the 2D network, for slices across the first axis.
    """

    transpose: tuple[int, ...]
    full_resolution: Configuration | None
    low_resolution: Configuration | None
    slices: Configuration


def plan_dataset_sizes(sizes: DatasetSizes, memory_gb: float = 8.0) -> NnunetPlan:
    """Plan the networks for a dataset of volumes, as nnU-Net does.

    Args:
        sizes: spacings and shapes of the cases.
        memory_gb: memory of the GPU that is planned for.

    Example:
        >>> sizes = DatasetSizes(np.ones((200, 3)), np.tile((36.0, 50.0, 35.0), (200, 1)), 200, 3)
        >>> plan = plan_dataset_sizes(sizes).full_resolution
        >>> plan.topology.patch_size, plan.batch_size
        ((40, 56, 40), 7)
    """
    target = target_spacing(sizes.spacings, sizes.shapes)
    order = transposition(target)
    spacing = target[list(order)]
    median = median_resampled_shape(sizes, target)[list(order)]
    voxels = float(np.prod(median) * sizes.cases)
    rules = Rules(sizes.classes, memory_gb)
    full = low = None
    if median[0] != 1:
        full = rules.plan(spacing, median, voxels)
        low = _plan_low_resolution(rules, full, sizes.cases)
        full = replace(full, batch_dice=low is not None)
    slices = replace(rules.plan(spacing[1:], median[1:], voxels), batch_dice=True)
    return NnunetPlan(order, full, low, slices)


def target_spacing(spacings: Floats, shapes: Floats) -> Floats:
    """Return the spacing that scans are resampled to: the median, finer along a coarse axis of few slices.

    If the coarsest axis has more than 3 times the spacing and less than a third of the voxels of the others,
    its spacing is the 10th percentile, but not below the others'.

    Args:
        spacings: (N, 3) spacing of each case.
        shapes: (N, 3) voxels of each case.
    """
    target = np.percentile(spacings, 50, axis=0)
    sizes = np.percentile(shapes, 50, axis=0)
    worst = int(np.argmax(target))
    others = [axis for axis in range(len(target)) if axis != worst]
    coarsest_other = float(target[others].max())
    if target[worst] > ANISOTROPY * coarsest_other and sizes[worst] * ANISOTROPY < sizes[others].min():
        fine = float(np.percentile(spacings[:, worst], 10))
        target[worst] = fine if fine >= coarsest_other else coarsest_other + 1e-5
    return target


def transposition(spacing: Sequence[float] | Floats) -> tuple[int, ...]:
    """Return the order of the axes in which the coarsest is the first.

    Example:
        >>> transposition((1.0, 1.0, 5.0))
        (2, 0, 1)
    """
    coarsest = int(np.argmax(spacing))
    return (coarsest, *(axis for axis in range(len(spacing)) if axis != coarsest))


def median_resampled_shape(sizes: DatasetSizes, target: Floats) -> Floats:
    """Return the median shape of the scans after resampling to ``target``."""
    new = [
        [round(old / wanted * count) for old, wanted, count in zip(mm, target, shape, strict=True)]
        for mm, shape in zip(sizes.spacings, sizes.shapes, strict=True)
    ]
    return np.median(new, axis=0)


@dataclass(frozen=True)
class Rules:
    """The rules for one network.

    Attributes:
        classes: channels of the logits.
        memory_gb: memory of the GPU that is planned for.
    """

    classes: int
    memory_gb: float = 8.0

    def plan(self, spacing: Any, median_shape: Any, dataset_voxels: float) -> Configuration:
        """Plan patch, network and batch.

        The patch starts with 256³ voxels (2D: 2048²) of equal size in mm, clipped to the median shape. While
        the feature maps are too large, the axis with the largest share of the median shape shrinks.

        Args:
            spacing: of the resampled scans.
            median_shape: of the resampled scans.
            dataset_voxels: voxels of all training cases; a batch has at most 5% of them.
        """
        dims = len(spacing)
        reference = _REFERENCE_ELEMENTS[dims] * (self.memory_gb / _REFERENCE_GB)
        reference_batch = _REFERENCE_BATCH[dims]
        topology = self._topology(initial_patch(spacing, median_shape), spacing)
        while topology.feature_elements(self.classes) / reference_batch * _MIN_BATCH > reference:
            topology = shrink(topology, spacing, median_shape, self._topology)
        batch = round(reference / topology.feature_elements(self.classes) * reference_batch)
        most = round(dataset_voxels * _MOST_OF_DATASET / topology.voxels)
        return Configuration(
            spacing=tuple(float(s) for s in spacing),
            median_shape=tuple(float(n) for n in median_shape),
            topology=topology,
            batch_size=max(min(batch, most), _MIN_BATCH),
        )

    def _topology(self, size: Sequence[float], spacing: Sequence[float]) -> Topology:
        return build_topology(size, spacing, base=_BASE_FEATURES, most=_MOST_FEATURES[len(spacing)])


def initial_patch(spacing: Any, median_shape: Any) -> list[float]:
    """Return a patch of 256³ voxels (2D: 2048²) with edges of equal length, clipped to the median shape."""
    ratio = 1 / np.asarray(spacing, dtype=np.float64)
    dims = len(ratio)
    edges = ratio * (_INITIAL_EDGE[dims] ** dims / np.prod(ratio)) ** (1 / dims)
    return [min(round(float(edge)), float(n)) for edge, n in zip(edges, median_shape, strict=True)]


def shrink(topology: Topology, spacing: Any, median_shape: Any, build: Any) -> Topology:
    """Shrink the axis whose patch covers the largest share of the median shape, and plan the levels again.

    The axis loses the total stride that a patch smaller by the present total stride would have, because the
    levels may become fewer.

    Args:
        topology: the present one.
        spacing: of the voxels.
        median_shape: of the scans.
        build: returns the topology for a size and a spacing.
    """
    patch = list(topology.patch_size)
    shares = [n / whole for n, whole in zip(patch, median_shape, strict=True)]
    axis = max(range(len(patch)), key=lambda i: (shares[i], i))
    smaller = list(patch)
    smaller[axis] -= topology.divisor[axis]
    patch[axis] -= build(smaller, spacing).divisor[axis]
    return build(patch, spacing)


def _plan_low_resolution(rules: Rules, full: Configuration, cases: int) -> Configuration | None:
    """Plan the first stage of a cascade: coarser, until the patch covers a quarter of the median scan."""
    fine, shape = np.array(full.spacing), np.array(full.median_shape)
    spacing, plan = fine.copy(), full
    voxels = whole = float(np.prod(shape))
    while plan.topology.voxels / voxels < LOW_RESOLUTION_BELOW:
        spacing = coarser(spacing)
        voxels = float(np.prod(fine / spacing * shape))
        plan = rules.plan(spacing, [round(float(n)) for n in fine / spacing * shape], voxels * cases)
    return plan if whole / voxels >= LEAST_GAIN else None


def coarser(spacing: Floats) -> Floats:
    """Return a spacing that is 3% coarser, along the finest axes as long as others are twice as coarse."""
    fine = spacing.max() / spacing > 2
    return np.where(fine | ~fine.any(), spacing * _SPACING_STEP, spacing)


def edge_ratio(spacing: Sequence[float]) -> float:
    """Return the ratio of the coarsest to the finest spacing."""
    return max(spacing) / min(spacing)


def voxel_share(patch: Sequence[int], median_shape: Sequence[float]) -> float:
    """Return the share of a median scan's voxels that a patch has, at most 1 along each axis."""
    return math.prod(min(n / whole, 1.0) for n, whole in zip(patch, median_shape, strict=True))
