"""Exchange of left and right labels in mirrored patches."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from medseg.data.loading.workers import Sample


@dataclass(frozen=True)
class LateralSwap:
    """Left and right labels, which are exchanged in a patch that is a mirror image.

    Attributes:
        labels: for each class the class that it becomes.
        channels: the same for each channel of the logits.
    """

    labels: tuple[int, ...]
    channels: tuple[int, ...]

    def swap(self, sample: Sample) -> Sample:
        """Exchange left and right in the labels, soft labels and annotated channels of a sample."""
        swapped = dict(sample)
        table = torch.tensor((*self.labels, -1), dtype=sample["label"].dtype)
        swapped["label"] = table[sample["label"].long()]  # index -1 is the last entry, -1
        for key in ("soft", "annotated"):
            if key in sample:
                swapped[key] = sample[key][list(self.channels)]
        return swapped
