"""Settings that follow from the fingerprint: intensities, patches, loss, augmentation, and a first stage."""

from __future__ import annotations

import math
from collections.abc import Sequence

from medseg.planning.describe import mm, shown
from medseg.planning.draft import Draft
from medseg.planning.fingerprint import ClassFingerprint, Fingerprint
from medseg.planning.measured.step_timer import network_config
from medseg.planning.network_candidates import Candidate
from medseg.planning.spacing_and_patch import THICK_RADIUS, Geometry
from medseg.training.cascade.options import CascadeConfig

FIRST_STAGE_SHARE: float = CascadeConfig.model_fields["share"].default
"""Share of the time of the updates that the first stage takes."""
FOLDS: int = CascadeConfig.model_fields["folds"].default

_MASKED_BELOW = 0.75
"""Share of nonzero voxels below which only those are normalized. nnU-Net compares the box around them."""
_MANY_CLASSES, _IMBALANCE = 4, 20.0
_SIZE_RATIO = 1.5
_OFF_CENTER = 0.1
_THIN = 2.5
_MAX_WINDOW = (1024, 1024)


def choose_normalization(fingerprint: Fingerprint, draft: Draft) -> None:
    """Choose how intensities are normalized."""
    key = "preprocess.normalize"
    if fingerprint.modality == "ct":
        window = ""
        if fingerprint.intensities is not None:
            low, _, high = fingerprint.intensities
            window = f", here {low:.0f} to {high:.0f} HU"
        reason = (
            f"CT: Hounsfield units have a meaning, so all scans share one window of the labeled voxels{window}"
        )
        draft.set(key, {"name": "ct"}, reason)
    elif fingerprint.kind == "volume" and fingerprint.nonzero_share < _MASKED_BELOW:
        reason = (
            f"{1 - fingerprint.nonzero_share:.0%} of a scan's voxels are 0 (over 25%), which is not tissue: "
            "mean and standard deviation are those of the others"
        )
        draft.set(key, {"name": "zscore_nonzero"}, reason)
    else:
        reason = "intensities have no fixed unit: each scan gets mean 0 and standard deviation 1"
        draft.set(key, {"name": "zscore"}, reason)


def choose_windows(fingerprint: Fingerprint, draft: Draft) -> None:
    """Choose the windows of the inference: for pictures, as large as the picture where it fits."""
    if fingerprint.kind == "picture":
        reason = (
            "windows as large as the picture, up to this size: instance norm amplifies the noise of small "
            "windows without objects"
        )
        draft.set("inference.max_roi_size", list(_MAX_WINDOW), reason)
        draft.set("inference.batch_size", 1)


def choose_sampling(fingerprint: Fingerprint, coverage: Sequence[float], draft: Draft) -> None:
    """Choose how many patches are forced to contain a class.

    Args:
        fingerprint: of the dataset.
        coverage: share of a scan that a patch covers along each axis.
        draft: receives the settings.
    """
    rare = fingerprint.rarest
    hit = chance_of_class(rare, coverage)
    if len(fingerprint.classes) >= _MANY_CLASSES and fingerprint.imbalance >= _IMBALANCE:
        share = 2 / 3
        reason = (
            f"{len(fingerprint.classes)} classes, the most frequent {fingerprint.imbalance:.0f} times as "
            f"frequent as the rarest ({rare.name}): two of three patches contain a class drawn uniformly"
        )
    elif hit >= 0.5:
        share = 1 / 3
        reason = (
            f"a random patch contains the rarest class ({rare.name}) with a chance of about "
            f"{hit:.0%}: as nnU-Net"
        )
    else:
        share = 1 / 2 if hit >= 0.15 else 2 / 3
        reason = f"a random patch contains the rarest class ({rare.name}) with a chance of only about {hit:.0%}"
    draft.set("sampling.forced_share", round(share, 3), reason)
    draft.set("sampling.balance", "uniform", "rare classes are drawn as often as frequent ones")
    if fingerprint.kind == "picture":
        reason = (
            "rotated and reduced patches reach beyond the picture: mirrored at its border, they have labels "
            "everywhere and no black corners, which no window has when the model is used"
        )
        draft.set("sampling.border", "reflect", reason)


def chance_of_class(one: ClassFingerprint, coverage: Sequence[float]) -> float:
    """Estimate the chance that a patch at a random position contains a part of a class.

    Along each axis, it is the sum of what the patch covers and what the class spans, at most 1.

    Args:
        one: the class.
        coverage: share of a scan that a patch covers along each axis.
    """
    spans = one.extent or (0.0,) * len(coverage)
    return one.case_share * math.prod(min(1.0, a + b) for a, b in zip(coverage, spans, strict=True))


def choose_loss(fingerprint: Fingerprint, draft: Draft) -> None:
    """Choose the loss."""
    dice = {"weight": 1.0, "loss": {"name": "dice"}}
    base = (
        "Dice plus cross-entropy (nnU-Net); Dice over the whole batch, because single patches hold few voxels"
    )
    if not fingerprint.background and fingerprint.imbalance >= _IMBALANCE:
        cross_entropy = {"weight": 1.0, "loss": {"name": "ce", "class_weights": "sqrt"}}
        reason = (
            f"{base}. Every pixel belongs to a class, the most frequent {fingerprint.imbalance:.0f} times "
            "as often as the rarest: cross-entropy is weighted by the inverse square root of the frequency"
        )
        draft.set("loss", {"name": "sum", "terms": [cross_entropy, dice]}, reason)
        return
    thin = min(
        (one for one in fingerprint.classes if one.radius), key=lambda one: one.radius or 0.0, default=None
    )
    if thin is not None and thin.radius is not None and thin.radius < _THIN:
        base += (
            f". {thin.name} is thin (radius {thin.radius:.1f} voxels): the Dice term keeps it from "
            "being ignored. clDice (loss cldice) may join interrupted lines, at a cost in time"
        )
    draft.set("loss", {"name": "sum", "terms": [dice, {"weight": 1.0, "loss": {"name": "ce"}}]}, base)


def choose_augmentation(fingerprint: Fingerprint, dims: int, draft: Draft) -> None:
    """Choose the preset of the augmentation, and what the data forbids.

    Pictures that may be turned get ``2d_robust``, because microscopes, stains and magnifications differ, unless
    a class, or the gaps in it, are thin lines: these are lost in reduced patches, and learned late where lines
    are dark as often as bright. Volumes get ``3d``: in trainings of some minutes, ``3d_robust`` costs more than
    it gains (see the page *Augment*).

    Args:
        fingerprint: of the dataset.
        dims: of the network.
        draft: receives the settings.
    """
    upright = fingerprint.kind == "picture" and upright_class(fingerprint)
    thin = _is_thin(fingerprint)
    preset = f"{dims}d"
    if fingerprint.kind == "picture" and not upright and not thin:
        preset = "2d_robust"
        reason = "preset 2d_robust: pictures of other microscopes, stains and magnifications"
    else:
        reason = (
            f"preset {preset}; for scans from elsewhere and with much time, compare it with {preset}_robust"
        )
        if fingerprint.kind == "picture" and thin:
            radius = f"radius {fingerprint.thinnest:.1f} pixels"
            reason += f", which learns thin structures (here {radius}) more slowly"
    settings: dict[str, object] = {"preset": preset}
    if upright:
        settings["flip"] = {"axes": [1]}
        settings["affine"] = {"rotate": 10.0}
        where = "above" if upright.center[0] < 0.5 else "below"
        reason += (
            f". {upright.name} is always {where} the middle (mean height {1 - upright.center[0]:.0%}): no "
            "rotation beyond 10 degrees, mirrored left and right only"
        )
    elif preset != "2d_robust" and size_ratio(fingerprint) >= _SIZE_RATIO:
        settings["affine"] = {"scale": [0.6, 1.7]}
        reason += (
            f"; sizes of objects differ by a factor of {size_ratio(fingerprint):.1f} between cases: "
            "wide scaling"
        )
    draft.set("augment", settings, reason)


def choose_mirror_images(fingerprint: Fingerprint, draft: Draft) -> None:
    """Choose the mirror images over which probabilities of classes are averaged, for thin structures."""
    if fingerprint.kind == "picture" and _is_thin(fingerprint):
        draft.set(
            "inference.flips", [1] if upright_class(fingerprint) else [0, 1],
            "the mean over mirror images finds more of thin structures, in a multiple of the time",
        )  # fmt: skip


def _is_thin(fingerprint: Fingerprint) -> bool:
    """Return whether a class, or the gap between its parts, is so thin that reduced patches lose it."""
    thinnest = fingerprint.thinnest
    return not fingerprint.separated and thinnest is not None and thinnest < THICK_RADIUS


def upright_class(fingerprint: Fingerprint) -> ClassFingerprint | None:
    """Return the class whose height in the picture is always about the same and off the middle, if any."""
    placed = [one for one in fingerprint.classes if one.center and one.case_share > 0.5]
    if fingerprint.sampled < 4 or not placed:
        return None
    best = max(placed, key=lambda one: abs(one.center[0] - 0.5))
    off = abs(best.center[0] - 0.5)
    return best if off > _OFF_CENTER and best.center_spread[0] < off / 2 else None


def size_ratio(fingerprint: Fingerprint) -> float:
    """Return the largest ratio of the 90th to the 10th percentile of a class's radius."""
    return max((one.radius_ratio or 1.0 for one in fingerprint.classes), default=1.0)


def choose_first_stage(
    draft: Draft, geometry: Geometry, stages: tuple[Candidate, Candidate], *, deep_supervision: bool
) -> None:
    """Set the first stage of a plan whose second stage has its number of epochs.

    Args:
        draft: the settings of the second stage.
        geometry: gives the order of axes.
        stages: the networks of the first and the second stage.
        deep_supervision: as in :func:`medseg.planning.measured.step_timer.network_config`.
    """
    first, second = stages
    topology = geometry.topology(first)
    draft.explain(
        "cascade",
        f"a patch of the second stage covers {second.coverage:.0%} of the median case. The first stage sees "
        f"{first.coverage:.0%} of it at {mm(geometry.spacing(first))} mm (patch {shown(topology.patch_size)}), "
        "and the second one receives its segmentation as further channels",
    )
    draft.set("cascade.spacing", [float(f"{s:.4g}") for s in geometry.spacing(first)])
    draft.set("cascade.patch_size", list(topology.patch_size))
    network = network_config(topology, deep_supervision=deep_supervision)
    draft.set("cascade.model", network.model_dump(mode="json"))
    draft.set("cascade.batch_size", first.batch_size)
    epochs = draft.settings["train"]["epochs"] * FIRST_STAGE_SHARE / (1 - FIRST_STAGE_SHARE) / FOLDS
    draft.set(
        "cascade.epochs", max(1, round(epochs)),
        f"{FOLDS} networks, each trained without a part of the cases, which it then segments for the second "
        f"stage; together they take {FIRST_STAGE_SHARE:.0%} of the time",
    )  # fmt: skip
