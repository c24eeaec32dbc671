"""Instances: every object of an image on its own, in 2D and 3D.

A network with a dense head predicts the classes of the voxels and further maps, from which the objects are
decoded (:class:`InstanceHead`). All maps are in mm (pixels for pictures), so that one head serves pictures,
volumes and anisotropic voxels.

Modules:
    result: ``Instances``, the objects of one image.
    options: ``task`` and the thresholds of decoding.
    heads: dense heads (flows, distance, rays) and their loss.
    label_maps: components, renumbering and cleaning of label maps.
    matching: pairs of reference and predicted objects.
    decoding_search: the score of an object, and the choice of thresholds.

The names below are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.system.lazy_imports import lazy_names

if TYPE_CHECKING:
    from medseg.instances.heads.base import DecodedObjects, InstanceHead, build_head
    from medseg.instances.options import InstanceDecoding, InstanceTask, SemanticTask
    from medseg.instances.result import Instances

__all__ = [
    "DecodedObjects",
    "InstanceDecoding",
    "InstanceHead",
    "InstanceTask",
    "Instances",
    "SemanticTask",
    "build_head",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "medseg.instances.heads.base": ("DecodedObjects", "InstanceHead", "build_head"),
        "medseg.instances.options": ("InstanceDecoding", "InstanceTask", "SemanticTask"),
        "medseg.instances.result": ("Instances",),
    },
)
