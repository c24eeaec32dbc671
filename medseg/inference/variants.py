"""Test-time augmentation: mirrored and scaled windows, their scores brought back and averaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import torch
import torch.nn.functional as F

from medseg.geometry import is_mirror_image
from medseg.inference.stream import Predict
from medseg.models.padding import linear_mode, resize_linear


@dataclass(frozen=True)
class Variants:
    """Which variants of a window go through the network.

    Attributes:
        flips: spatial axes that are mirrored, in all their combinations.
        scales: factors of the window's size, besides 1.
        exchange: for each channel of the scores the one it becomes in a mirror image; empty if none does.
    """

    flips: tuple[int, ...] = ()
    scales: tuple[float, ...] = ()
    exchange: tuple[int, ...] = ()

    def __len__(self) -> int:
        return 2 ** len(self.flips) * (1 + len(self.scales))

    def of(self, predict: Predict, batch_size: int) -> Predict:
        """``predict`` averaged over the variants, at most ``batch_size`` windows going through at once."""
        if len(self) == 1:
            return predict

        def averaged(windows: torch.Tensor) -> torch.Tensor:
            size = windows.shape[2:]
            total: torch.Tensor | None = None
            for scale in (1.0, *self.scales):
                scaled = _scaled(windows, scale)
                for axes, scores in self._mirrored(predict, scaled, batch_size):
                    back = resize_linear(self._back(scores.float(), axes), size)
                    total = back if total is None else total.add_(back)
            assert total is not None
            return total.div_(len(self))

        return averaged

    def _mirrored(
        self, predict: Predict, windows: torch.Tensor, batch_size: int
    ) -> Iterator[tuple[tuple[int, ...], torch.Tensor]]:
        """Every combination of mirrored axes, and the scores of the windows mirrored so."""
        subsets = list(chain.from_iterable(combinations(self.flips, n) for n in range(len(self.flips) + 1)))
        together = max(1, batch_size // len(windows))  # small batches are filled with variants
        for first in range(0, len(subsets), together):
            group = subsets[first : first + together]
            scores = predict(torch.cat([_flip(windows, axes) for axes in group]))
            yield from zip(group, scores.split(len(windows)), strict=True)

    def _back(self, scores: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
        scores = _flip(scores, axes)
        if self.exchange and is_mirror_image(axes):
            scores = scores[:, list(self.exchange)]
        return scores


def _flip(windows: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
    return windows.flip([2 + axis for axis in axes]) if axes else windows


def _scaled(windows: torch.Tensor, scale: float) -> torch.Tensor:
    if scale == 1:
        return windows
    size = [max(1, round(n * scale)) for n in windows.shape[2:]]
    return F.interpolate(windows, size=size, mode=linear_mode(len(size)), align_corners=False)
