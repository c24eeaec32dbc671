"""What the sampler drew: how much of each class the patches of an epoch held."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from medseg.data.loading.sampling import CLASS_COUNTS


@dataclass
class Drawn:
    """Counts over the open epoch; entry 0 is what was ignored, entry k + 1 is class k.

    Attributes:
        patches: in all.
        holding: patches that hold each class.
        voxels: of each class.
    """

    patches: int = 0
    holding: list[int] = field(default_factory=list)
    voxels: list[int] = field(default_factory=list)

    def add(self, batch: dict[str, torch.Tensor]) -> None:
        """Add the voxels (B, K + 1) of each class that the samples of a batch were counted to hold."""
        counts = batch[CLASS_COUNTS]
        size = counts.shape[1]
        holding, voxels = (counts > 0).sum(dim=0).tolist(), counts.sum(dim=0).tolist()
        self.patches += len(counts)
        self.holding = [a + b for a, b in zip(self.holding or [0] * size, holding, strict=True)]
        self.voxels = [a + b for a, b in zip(self.voxels or [0] * size, voxels, strict=True)]

    def shares(self, names: tuple[str, ...]) -> dict[str, Any]:
        """For the log: share of the patches that hold each class, and each class's share of the voxels."""
        total = sum(self.voxels[1:]) or 1
        entry: dict[str, Any] = {}
        for k, name in enumerate(names, start=1):
            if self.patches:
                entry[f"drawn_patches:{name}"] = round(self.holding[k] / self.patches, 4)
                entry[f"drawn_voxels:{name}"] = round(self.voxels[k] / total, 6)
        return entry

    def to_checkpoint(self) -> dict[str, Any]:
        """Plain types."""
        return {"patches": self.patches, "holding": list(self.holding), "voxels": list(self.voxels)}
