"""Objects in training samples, and the maps that a dense head learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from medseg.data.loading.workers import Sample
from medseg.instances.heads.base import InstanceHead

OBJECTS = "objects"
"""Key of a sample: (1, *P) int32, number of the object that a voxel belongs to, 0 for none."""
MAPS = "maps"
"""Key of a sample: (G, *P) float32, the maps of the head."""


@dataclass(frozen=True)
class ObjectTargets:
    """What samples have if objects are separated.

    Attributes:
        head: makes the maps; None if the network learns from the objects themselves.
    """

    head: InstanceHead | None = None

    def add_maps(self, sample: Sample, spacing: Sequence[float]) -> Sample:
        """Return a sample with the maps of its objects.

        Args:
            sample: with :data:`OBJECTS`.
            spacing: distance between the voxels of the patch, mm.
        """
        if self.head is None:
            return sample
        maps = self.head.targets(sample[OBJECTS][0].numpy(), spacing)
        return {**sample, MAPS: torch.from_numpy(maps)}
