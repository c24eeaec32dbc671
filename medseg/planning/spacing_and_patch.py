"""From a fingerprint to the candidates of its plan, and back to medseg's order of axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from medseg.planning.fingerprint import Fingerprint
from medseg.planning.network_candidates import Candidate, LadderLimits, candidate_ladder
from medseg.planning.nnunet_rules import (
    ANISOTROPY,
    Configuration,
    DatasetSizes,
    NnunetPlan,
    Rules,
    plan_dataset_sizes,
)
from medseg.planning.topology import Topology

_USUAL_GB = 8.0
_CPU_LEVELS = 5
"""Largest number of levels on a CPU, where the optimizer's time for wide levels counts."""
_FEW_PLANES = 8
"""A patch with fewer planes than this along a coarse axis is too thin for a 3D network."""
_NEIGHBORS = 1
_OBJECT_RADIUS = 3.0
"""Voxels of the radius that objects keep at a coarser spacing, to be separated."""
THICK_RADIUS = 4.0
"""Radius in pixels from which a class, or the background between its parts, is not thin: such pictures may be
computed at half the resolution."""
_COARSE_PATIENCE = 3.0
"""Factor on the wanted updates where networks may compute at half the resolution: with many updates, these
serve pictures of other sites better than a network at full resolution with few."""
_OBJECT_PATIENCE = 2.0
"""Factor on the wanted updates where objects are separated: outlines of rare kinds are learned late."""

Dims = Literal[2, 3]


@dataclass(frozen=True)
class Geometry:
    """The networks that come into question for a dataset.

    Attributes:
        dims: of the network.
        order: axis i of the plan is axis ``order[i]`` of medseg's arrays.
        ladder: the candidates.
        start: nnU-Net's plan for the memory of the device.
        nnunet: nnU-Net's plans of a dataset of volumes.
        slice_axis: axis across the slices of volumes for 2D networks; None without.
        fixed_spacing: spacing of all axes for slices, in medseg's order.
        max_levels: largest number of levels of a network.
        patience: factor on the number of updates that a training needs.
    """

    dims: Dims
    order: tuple[int, ...]
    ladder: list[Candidate]
    start: Configuration
    nnunet: NnunetPlan | None = None
    slice_axis: int | None = None
    fixed_spacing: tuple[float, ...] | None = None
    max_levels: int = 99
    patience: float = 1.0

    @property
    def neighbors(self) -> int:
        """Neighboring slices on either side that are channels of the input."""
        return 0 if self.slice_axis is None else _NEIGHBORS

    def topology(self, candidate: Candidate) -> Topology:
        """Return the network of a candidate with medseg's order of axes."""
        return candidate.topology.permuted(_inverse(self.order))

    def spacing(self, candidate: Candidate) -> tuple[float, ...]:
        """Return the spacing of a candidate in medseg's order of axes, for slices that of all three axes."""
        if self.fixed_spacing is not None:
            return self.fixed_spacing
        return tuple(candidate.spacing[i] for i in _inverse(self.order))

    def coverage(self, candidate: Candidate) -> tuple[float, ...]:
        """Return the share of the median scan that a patch covers along each of its axes, in medseg's order."""
        patch, shape = self.topology(candidate).patch_size, candidate.median_shape
        shape = tuple(shape[i] for i in _inverse(self.order))
        shares = [min(1.0, n / whole) for n, whole in zip(patch, shape, strict=True)]
        if self.slice_axis is not None:
            shares.insert(self.slice_axis, 0.0)
        return tuple(shares)


def plan_geometry(
    fingerprint: Fingerprint,
    *,
    on_gpu: bool,
    memory_gb: float,
    dims: Dims | None = None,
    full_resolution: bool = False,
) -> Geometry:
    """Plan the candidates of a dataset.

    Args:
        fingerprint: of the dataset.
        on_gpu: whether a GPU trains.
        memory_gb: memory of the GPU; on a CPU, nnU-Net's plan for 8 GB is the start.
        dims: 2 or 3; if None, slices of volumes are used where 3D patches would be too thin.
        full_resolution: whether small patches keep nnU-Net's spacing, as for the second stage of a cascade.
    """
    memory = memory_gb if on_gpu else _USUAL_GB
    levels = 99 if on_gpu else _CPU_LEVELS
    if fingerprint.kind == "picture":
        return _picture_geometry(fingerprint, memory, levels, on_gpu=on_gpu)
    plan, usual_plan = (plan_dataset_sizes(_sizes(fingerprint), gb) for gb in (memory, _USUAL_GB))
    if dims == 2 or (dims is None and needs_slices(plan.full_resolution)) or plan.full_resolution is None:
        return _slice_geometry(plan, usual_plan, levels)
    assert usual_plan.full_resolution is not None
    thick = (fingerprint.radius or 1.0) / (_OBJECT_RADIUS if fingerprint.separated else 1.0)
    coarsening = 1.0 if full_resolution else max(1.0, thick)
    limits = LadderLimits(levels, coarsening, usual_plan.full_resolution.topology.voxels)
    start = plan.full_resolution
    return Geometry(3, _file_order(plan), candidate_ladder(start, limits), start, plan, max_levels=levels)


def needs_slices(configuration: Configuration | None) -> bool:
    """Whether a 3D patch has so few planes along a coarse axis that a 2D network serves better."""
    if configuration is None:
        return True
    spacing, patch = configuration.spacing, configuration.topology.patch_size
    return spacing[0] > ANISOTROPY * max(spacing[1:]) and patch[0] < _FEW_PLANES


def _picture_geometry(fingerprint: Fingerprint, memory_gb: float, levels: int, *, on_gpu: bool) -> Geometry:
    start, usual = (_plan_pictures(fingerprint, gb) for gb in (memory_gb, _USUAL_GB))
    half = not on_gpu and (fingerprint.thinnest or 0.0) >= THICK_RADIUS
    limits = LadderLimits(
        levels, usual_voxels=usual.topology.voxels, half_resolution=half, outlines=fingerprint.separated
    )
    patience = 1.0
    if fingerprint.separated and not on_gpu:
        patience = _OBJECT_PATIENCE
    elif half:
        patience = _COARSE_PATIENCE
    return Geometry(2, (0, 1), candidate_ladder(start, limits), start, patience=patience)


def _slice_geometry(plan: NnunetPlan, usual: NnunetPlan, levels: int) -> Geometry:
    order = _file_order(plan)
    across, within = order[0], order[1:]
    first = 0 if within[0] < within[1] else 1
    full = plan.full_resolution
    spacing = None
    if full is not None:
        spacing = tuple(full.spacing[i] for i in _inverse(order))
    limits = LadderLimits(levels, usual_voxels=usual.slices.topology.voxels)
    return Geometry(
        2, (first, 1 - first), candidate_ladder(plan.slices, limits), plan.slices, plan,
        slice_axis=across, fixed_spacing=spacing,
    )  # fmt: skip


def _plan_pictures(fingerprint: Fingerprint, memory_gb: float) -> Configuration:
    median = fingerprint.median_shape
    voxels = float(np.prod(median) * fingerprint.cases)
    return Rules(fingerprint.num_labels, memory_gb).plan((1.0, 1.0), median, voxels)


def _sizes(fingerprint: Fingerprint) -> DatasetSizes:
    """Return the sizes with the axes of a file as nnU-Net reads it: superior, anterior, right."""
    return DatasetSizes(
        spacings=np.array(fingerprint.spacings)[:, ::-1],
        shapes=np.array(fingerprint.shapes, dtype=np.float64)[:, ::-1],
        cases=fingerprint.cases,
        classes=fingerprint.num_labels,
    )


def _file_order(plan: NnunetPlan) -> tuple[int, ...]:
    """Return for each axis of a plan the axis of medseg's arrays (right, anterior, superior)."""
    return tuple(2 - axis for axis in plan.transpose)


def _inverse(order: Sequence[int]) -> tuple[int, ...]:
    return tuple(order.index(axis) for axis in range(len(order)))


def spacing_setting(fingerprint: Fingerprint, spacing: Sequence[float]) -> list[float] | None:
    """Return the setting ``preprocess.spacing``; None if all scans have that spacing already."""
    if fingerprint.kind == "picture":
        return None
    all_spacings: Any = np.array(fingerprint.spacings)
    if np.allclose(all_spacings, spacing, rtol=0.01):
        return None
    return [float(f"{s:.4g}") for s in spacing]
