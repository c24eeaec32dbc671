"""Settings of a plan for networks that tell objects apart."""

from __future__ import annotations

from medseg.planning.draft import Draft
from medseg.planning.fingerprint import Fingerprint
from medseg.planning.topology import Topology

_LEAST_DIAMETER = 8.0
"""Pixels that the median object keeps at least when a patch is reduced."""


def choose_instances(fingerprint: Fingerprint, topology: Topology, draft: Draft, *, on_gpu: bool) -> None:
    """Choose the decoder, and what the separation of small objects needs.

    Args:
        fingerprint: of the dataset.
        topology: of the network.
        draft: receives the settings; the augmentation is chosen before.
        on_gpu: whether a GPU trains.
    """
    if not on_gpu:
        draft.set(
            "task.decoder", "distance",
            "its maps take a quarter of the time that those of flows take, and a seventh of that of rays: "
            "more updates in the same time",
        )  # fmt: skip
    if max(topology.strides[0]) > 1:
        draft.set("model.head_up", "transposed")
    turnable = fingerprint.kind == "picture" and draft.settings["augment"]["preset"] == "2d_robust"
    if turnable:
        draft.set(
            "inference.flips",
            [0, 1],
            "the mean over mirror images: smoother depths, fewer split or missed objects",
        )
    radius = fingerprint.radius
    if turnable:  # its distance maps were measured without it
        draft.set("augment.background", {"probability": 0.0})
    if turnable and radius:
        smallest = round(min(1.0, max(0.5, _LEAST_DIAMETER / (2 * radius))), 2)
        draft.set("augment.affine", {"scale": [smallest, 2.0]})
        draft.explain(
            "augment",
            draft.reasons["augment"] + f"; objects of a median diameter of {2 * radius:.0f} pixels are reduced "
            f"to {2 * radius * smallest:.0f} at most: smaller ones cannot be separated",
        )
