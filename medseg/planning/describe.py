"""Reasons and summaries of a plan in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medseg.config.schema import RunConfig
from medseg.planning.fingerprint import ClassFingerprint, Fingerprint
from medseg.planning.measured.candidate_choice import Choice
from medseg.planning.measured.machine import Machine
from medseg.planning.network_candidates import Candidate, first_stage
from medseg.planning.spacing_and_patch import Geometry
from medseg.progress import duration, plural
from medseg.system.device import resolve_device

_MOST_CLASSES = 12


@dataclass(frozen=True)
class NetworkReasons:
    """Reasons of the network: of the ``patch`` size and of the ``model``."""

    patch: str
    model: str


def describe_network(choice: Choice) -> NetworkReasons:
    """Explain patch and network of a choice."""
    one = choice.candidate
    patch = f"covers {one.coverage:.0%} of the median case; equal edges in mm, multiples of the total stride"
    model = (
        f"U-Net with {one.topology.levels} levels: an axis is halved while 8 voxels remain and it is not twice "
        f"as coarse as another (nnU-Net). {choice.measured} networks measured; this one needs "
        f"{choice.cost.seconds:.3g} s an update"
    )
    if max(one.topology.strides[0]) > 1:
        model += (
            ". It computes at half the resolution in a quarter of the time, because the labeled structures "
            "and the gaps between them are thick"
        )
    if one.topology.thin:
        model += (
            f". A thin level of {one.topology.features[0]} channels places outlines at the resolution of the "
            "image; the others compute at half of it and below"
        )
    if choice.rejected is not None:
        other, seconds = choice.rejected
        model += (
            f", the next larger one ({other.topology.features[0]} features, patch "
            f"{shown(other.topology.patch_size)}, batch {other.batch_size}) about {seconds:.3g} s: too long "
            "for the number of updates that trainings need"
        )
    return NetworkReasons(patch, model)


def describe_spacing(fingerprint: Fingerprint, geometry: Geometry, candidate: Candidate) -> str:
    """Explain the spacing that volumes are resampled to."""
    median = fingerprint.median_spacing
    reason = f"median of the scans: {mm(median)} mm"
    if fingerprint.anisotropy > 3:
        reason += "; along the coarse axis of few slices the 10th percentile (nnU-Net)"
    if candidate.spacing != geometry.start.spacing and geometry.slice_axis is None:
        reason += (
            "; coarser, so that a patch that fits the time covers a quarter of a scan. Predictions are on the "
            "scan's own grid"
        )
        if fingerprint.radius is not None:
            reason += (
                f". The class of median thickness has a radius of {fingerprint.radius:.1f} voxels of the scans"
            )
    return reason


def describe_plan(
    fingerprint: Fingerprint,
    machine: Machine,
    geometry: Geometry,
    choice: Choice,
    first: Candidate | None = None,
) -> list[str]:
    """Describe the data, the machine and what the plan leaves open, a paragraph each.

    Args:
        fingerprint: of the dataset.
        machine: the device.
        geometry: the candidates.
        choice: the chosen network, or the second stage of a cascade.
        first: the first stage of a cascade.
    """
    parts = [_describe_data(fingerprint), _describe_classes(fingerprint), f"Machine: {machine.describe()}."]
    start, network = geometry.start, geometry.start.topology
    parts.append(
        f"nnU-Net would plan patch {shown(network.patch_size)} (its axis order), batch {start.batch_size} and "
        f"{network.levels} levels of {network.features[0]} to {network.features[-1]} features."
    )
    coverage = f"a patch covers {choice.candidate.coverage:.0%} of the median case"
    if first is not None:
        parts.append(
            f"A cascade: {coverage}, so that a first stage at {mm(geometry.spacing(first))} mm segments the "
            "whole scan, and a second one refines the result."
        )
    elif geometry.dims == 3 and (low := first_stage(choice.candidate, geometry.max_levels)) is not None:
        parts.append(
            f"One network: {coverage}. With --cascade, a first stage at {mm(geometry.spacing(low))} mm would "
            "segment the whole scan before it."
        )
    return parts


def _describe_data(fingerprint: Fingerprint) -> str:
    kind = {"ct": "CT volumes", "color": "color pictures", "gray": "pictures", "other": "volumes"}
    text = (
        f"Data: {fingerprint.cases} {kind[fingerprint.modality]}, median size {shown(fingerprint.median_shape)}"
    )
    if fingerprint.kind == "volume":
        text += f", median spacing {mm(fingerprint.median_spacing)} mm (ratio {fingerprint.anisotropy:.2g})"
    channels = fingerprint.channels
    return f"{text}, {channels} channel{'s' if channels > 1 else ''}."


def _describe_classes(fingerprint: Fingerprint) -> str:
    shown_classes = [_describe_class(one) for one in fingerprint.classes[:_MOST_CLASSES]]
    more = len(fingerprint.classes) - _MOST_CLASSES
    rest = f"; and {more} more" if more > 0 else ""
    return f"Classes (structures measured in {fingerprint.sampled} cases): {'; '.join(shown_classes)}{rest}."


def _describe_class(one: ClassFingerprint) -> str:
    text = f"{one.name} {100 * one.voxel_share:.2g}% of the voxels, in {one.case_share:.0%} of the cases"
    if one.components is not None and one.component_voxels is not None and one.radius is not None:
        text += (
            f", {one.components:g} component{'s' if one.components > 1 else ''} of "
            f"{one.component_voxels:.0f} voxels, radius {one.radius:.1f}"
        )
    return text


def shown(size: Sequence[float]) -> str:
    """Format a size, as ``40×56×40``."""
    return "×".join(f"{n:g}" for n in size)


def mm(spacing: Sequence[float]) -> str:
    """Format a spacing, as ``1×1×2.5``."""
    return "×".join(f"{s:.3g}" for s in spacing)


def describe_settings(config: RunConfig) -> list[str]:
    """Describe the settings of a training that matter most, one line each.

    Example:
        >>> describe_settings(RunConfig())[1]
        'patch          64×64×64 voxels'
    """
    train, spacing, slices = config.train, config.preprocess.spacing, config.preprocess.slices
    device = resolve_device(train.device)
    cut = f", slices across axis {slices.axis} of the volumes" if slices is not None else ""
    accumulated = f", {train.accumulate} batches an update" if train.accumulate > 1 else ""
    updates = (
        f"{plural(train.epochs * train.iterations, 'update')} "
        f"({plural(train.epochs, 'epoch')} of {train.iterations:,})"
    )
    if train.budget is not None:
        updates = f"as many as fit in {duration(60 * train.budget)}"
    channels = getattr(config.model, "channels", None)
    unit = "pixels" if config.spatial_dims == 2 else "voxels"
    first: dict[str, str] = {}
    if (cascade := config.cascade) is not None:
        networks = plural(cascade.folds, "network")
        first["first stage"] = f"{mm(cascade.spacing)} mm, patch {shown(cascade.patch_size)}, {networks}"
    rows = first | {
        "spacing": f"{mm(spacing)} mm" if spacing is not None else "as in the files",
        "patch": f"{shown(config.sampling.patch_size)} {unit}{cut}",
        "network": config.model.name + (f", channels {' '.join(map(str, channels))}" if channels else ""),
        "batch": f"{plural(train.batch_size, 'patch', 'patches')}{accumulated}",
        "updates": updates,
        "normalization": config.preprocess.normalize.name,
        "device": f"{device}" + (f", {plural(train.threads, 'thread')}" if train.threads is not None else ""),
        "workers": f"{config.data.workers} to prepare patches",
    }
    return [f"{name:14} {value}" for name, value in rows.items()]
