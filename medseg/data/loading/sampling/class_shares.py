"""Statistics of the drawn patches: how much of each class they contained in an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from medseg.data.loading.sampling.patch_dataset import CLASS_COUNTS


@dataclass
class SamplingStats:
    """Counts over the current epoch; entry 0 counts ignored voxels, entry k + 1 counts class k.

    Attributes:
        patches: number of patches.
        holding: number of patches with each class.
        voxels: number of voxels of each class.
    """

    patches: int = 0
    holding: list[int] = field(default_factory=list)
    voxels: list[int] = field(default_factory=list)

    def add(self, batch: dict[str, torch.Tensor]) -> None:
        """Add the counted voxels (B, K + 1) of each class in the samples of a batch."""
        counts = batch[CLASS_COUNTS]
        size = counts.shape[1]
        holding, voxels = (counts > 0).sum(dim=0).tolist(), counts.sum(dim=0).tolist()
        self.patches += len(counts)
        self.holding = [a + b for a, b in zip(self.holding or [0] * size, holding, strict=True)]
        self.voxels = [a + b for a, b in zip(self.voxels or [0] * size, voxels, strict=True)]

    @classmethod
    def merged(cls, parts: Sequence[SamplingStats]) -> SamplingStats:
        """Return the counts of several processes together."""
        counted = [part for part in parts if part.patches]
        return cls(
            sum(part.patches for part in counted),
            [sum(column) for column in zip(*(part.holding for part in counted), strict=True)],
            [sum(column) for column in zip(*(part.voxels for part in counted), strict=True)],
        )

    def shares(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Return entries of the log: the share of the patches with each class, and its share of the voxels."""
        total = sum(self.voxels[1:]) or 1
        entry: dict[str, Any] = {}
        for k, name in enumerate(names, start=1):
            if self.patches:
                entry[f"drawn_patches:{name}"] = round(self.holding[k] / self.patches, 4)
                entry[f"drawn_voxels:{name}"] = round(self.voxels[k] / total, 6)
        return entry

    def to_checkpoint(self) -> dict[str, Any]:
        """Return the counts as plain types."""
        return {"patches": self.patches, "holding": list(self.holding), "voxels": list(self.voxels)}
