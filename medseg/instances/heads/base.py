"""Dense heads: maps that a network predicts beside its classes, and the objects that are decoded from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from medseg.geometry import Array
from medseg.instances.options import InstanceDecoding, InstanceTask


@dataclass(frozen=True)
class DecodedObjects:
    """Objects decoded from the output of a network.

    Attributes:
        label_map: (*S) int32, objects 1 … N.
        scores: (N,) float64, 0 to 1.
    """

    label_map: NDArray[np.int32]
    scores: NDArray[np.float64]


class InstanceHead(Protocol):
    """The maps of one decoder.

    Attributes:
        channels: number of maps, G.
    """

    @property
    def channels(self) -> int: ...

    def targets(self, label_map: Array, spacing: Sequence[float]) -> NDArray[np.float32]:
        """Return the maps (G, *S) of a label map (*S) of objects; ``spacing`` in mm."""
        ...

    def loss(self, predicted: torch.Tensor, target: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
        """Return the loss of maps (B, G, *S) over the ``counted`` (B, 1, *S) voxels, a scalar."""
        ...

    def decode(
        self, foreground: Array, maps: Array, spacing: Sequence[float], options: InstanceDecoding
    ) -> DecodedObjects:
        """Decode objects from the probability of foreground (*S) and predicted maps (G, *S)."""
        ...

    def enlarge(self, maps: Array, factor: float) -> Array:
        """Return the maps (G, *S) in an image that has ``factor`` times as many voxels along each axis."""
        ...

    def mirror(self, maps: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
        """Restore the values of maps (B, G, *S) that were predicted in an image mirrored along spatial axes.

        The voxels are in the order of the original image already.
        """
        ...


def build_head(task: InstanceTask, spatial_dims: int) -> InstanceHead | None:
    """Build the dense head of a task; None for ``boxes``, which a detector predicts."""
    from medseg.instances.heads.distance import DistanceHead
    from medseg.instances.heads.flows import FlowHead
    from medseg.instances.heads.rays import RayHead

    if task.decoder == "flows":
        return FlowHead(spatial_dims)
    if task.decoder == "distance":
        return DistanceHead()
    if task.decoder == "boxes":
        return None
    return RayHead.of(spatial_dims, task.rays)
