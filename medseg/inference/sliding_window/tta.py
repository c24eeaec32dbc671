"""Test-time augmentation: mirrored and scaled windows, their scores brought back and averaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import torch
import torch.nn.functional as F

from medseg.config.base import Spec
from medseg.data.loading.augmentation import AugmentConfig
from medseg.errors import ConfigError
from medseg.geometry import is_mirror_image
from medseg.inference.options import InferenceConfig
from medseg.inference.sliding_window.streaming import Predict
from medseg.models.layers.padding import linear_mode, resize_linear

_ROUNDING = 1e-6


class SeenVariants(Spec):
    """Which mirrored, rotated and scaled images a training used.

    Attributes:
        mirror_axes: spatial axes of the network's input that were mirrored.
        rotate: largest angle, degrees.
        scale: smallest and largest magnification.
    """

    mirror_axes: tuple[int, ...] = ()
    rotate: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def of(cls, augment: AugmentConfig) -> SeenVariants:
        """Those of an augmentation: what it draws with a probability above 0."""
        flip, affine = augment.flip, augment.affine
        axes = tuple(sorted(set(flip.axes))) if flip.probability > 0 else ()
        if affine.probability == 0:
            return cls(mirror_axes=axes)
        return cls(mirror_axes=axes, rotate=affine.rotate, scale=affine.scale)


ADVICE = "If mirrored and scaled images mean the same here, use them all the same: --force."


def check_variants(
    settings: InferenceConfig, seen: SeenVariants, where: str, advice: str = f"Leave them out. {ADVICE}"
) -> None:
    """Raises: ConfigError for flips and scales that the training of ``where`` did not use."""
    axes = [axis for axis in settings.flips if axis not in seen.mirror_axes]
    if axes:
        raise ConfigError(
            f"inference.flips={list(settings.flips)}: {where} was trained with images mirrored along the axes "
            f"{list(seen.mirror_axes)}, not along {axes}: it does not recognize what they show. {advice}"
        )
    low, high = seen.scale[0] - _ROUNDING, seen.scale[1] + _ROUNDING
    scales = [scale for scale in settings.scales if not low <= scale <= high]
    if scales:
        raise ConfigError(
            f"inference.scales={list(settings.scales)}: {where} was trained with magnifications from "
            f"{seen.scale[0]:g} to {seen.scale[1]:g}; {scales} are outside. {advice}"
        )


def check_unrecorded(settings: InferenceConfig, own: InferenceConfig, where: str) -> None:
    """Raises: ConfigError for flips and scales beyond a file's own, if it does not record the training's."""
    for name in ("flips", "scales"):
        new = [value for value in getattr(settings, name) if value not in getattr(own, name)]
        if new:
            raise ConfigError(
                f"inference.{name}={list(getattr(settings, name))}: {where} was written by an earlier version, "
                f"which did not record what the training's augmentation used, and its own settings are "
                f"{name}={list(getattr(own, name))}. {ADVICE}"
            )


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
