"""Test-time augmentation: logits of mirrored and scaled windows, restored and averaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import torch
import torch.nn.functional as F

from medseg.config.base import Spec
from medseg.data.augmentation.options import AugmentConfig
from medseg.errors import ConfigError
from medseg.geometry import is_mirror_image
from medseg.inference.options import InferenceConfig
from medseg.inference.sliding_window.streaming import Network
from medseg.instances.heads.base import InstanceHead
from medseg.models.layers.padding import linear_mode, resize_linear

_ROUNDING = 1e-6


class TrainedAugmentation(Spec):
    """The mirrored, rotated and scaled images that a training used.

    Attributes:
        mirror_axes: spatial axes of the network's input that were mirrored.
        rotate: largest angle, degrees.
        scale: smallest and largest magnification.
    """

    mirror_axes: tuple[int, ...] = ()
    rotate: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def of(cls, augment: AugmentConfig) -> TrainedAugmentation:
        """Return what an augmentation draws with a probability above 0."""
        flip, affine = augment.flip, augment.affine
        axes = tuple(sorted(set(flip.axes))) if flip.probability > 0 else ()
        if affine.probability == 0:
            return cls(mirror_axes=axes)
        return cls(mirror_axes=axes, rotate=affine.rotate, scale=affine.scale)


FORCE_HINT = "If mirrored and scaled images mean the same here, use --force."


def check_tta(
    settings: InferenceConfig,
    trained: TrainedAugmentation,
    model: str,
    hint: str = f"Leave them out. {FORCE_HINT}",
) -> None:
    """Check that a training used the mirrored and scaled images of test-time augmentation.

    Args:
        settings: ``flips`` and ``scales`` to use.
        trained: what the training used.
        model: its name in the error.
        hint: what to do otherwise.

    Raises:
        ConfigError: the training did not use one of them.
    """
    axes = [axis for axis in settings.flips if axis not in trained.mirror_axes]
    if axes:
        raise ConfigError(
            f"inference.flips={list(settings.flips)}: {model} was trained with images mirrored along the axes "
            f"{list(trained.mirror_axes)}, not along {axes}: it does not recognize mirrored structures",
            hint=hint,
        )
    low, high = trained.scale[0] - _ROUNDING, trained.scale[1] + _ROUNDING
    scales = [scale for scale in settings.scales if not low <= scale <= high]
    if scales:
        raise ConfigError(
            f"inference.scales={list(settings.scales)}: {model} was trained with magnifications from "
            f"{trained.scale[0]:g} to {trained.scale[1]:g}; {scales} are outside",
            hint=hint,
        )


def check_tta_unrecorded(settings: InferenceConfig, stored: InferenceConfig, model: str) -> None:
    """Check test-time augmentation for a model file that does not record the training's augmentation.

    Args:
        settings: ``flips`` and ``scales`` to use.
        stored: the settings in the file.
        model: its name in the error.

    Raises:
        ConfigError: ``settings`` goes beyond ``stored``.
    """
    for name in ("flips", "scales"):
        new = [value for value in getattr(settings, name) if value not in getattr(stored, name)]
        if new:
            raise ConfigError(
                f"inference.{name}={list(getattr(settings, name))}: {model} was written by an earlier version, "
                f"which did not record the training's augmentation, and its own settings are "
                f"{name}={list(getattr(stored, name))}",
                hint=FORCE_HINT,
            )


@dataclass(frozen=True)
class TTA:
    """Test-time augmentation: the mirrored and scaled windows that go through the network.

    Attributes:
        flips: spatial axes that are mirrored, in all their combinations.
        scales: factors of the window's size, besides 1.
        mirrored_channels: for each channel of the logits the one it becomes in a mirror image; empty if none
            changes.
        mirrored_inputs: the same for each channel of the windows.
        head: dense head, whose maps are the last channels of the logits; None without.

    Example:
        >>> len(TTA(flips=(0, 1), scales=(1.5,)))
        8
    """

    flips: tuple[int, ...] = ()
    scales: tuple[float, ...] = ()
    mirrored_channels: tuple[int, ...] = ()
    mirrored_inputs: tuple[int, ...] = ()
    head: InstanceHead | None = None

    def __len__(self) -> int:
        return 2 ** len(self.flips) * (1 + len(self.scales))

    def wrap(self, network: Network, batch_size: int) -> Network:
        """Return a network whose logits are averaged over all windows, at most ``batch_size`` at once."""
        if len(self) == 1:
            return network

        def averaged(windows: torch.Tensor) -> torch.Tensor:
            size = windows.shape[2:]
            total: torch.Tensor | None = None
            for scale in (1.0, *self.scales):
                scaled = _scaled(windows, scale)
                for axes, logits in self._mirrored(network, scaled, batch_size):
                    restored = resize_linear(self._restored(logits.float(), axes), size)
                    total = restored if total is None else total.add_(restored)
            assert total is not None
            return total.div_(len(self))

        return averaged

    def view(self, network: Network, axes: tuple[int, ...]) -> Network:
        """Return a network whose logits are those of windows mirrored along ``axes``, restored."""
        return lambda windows: self._restored(network(self._mirror(windows, axes)), axes)

    def _mirrored(
        self, network: Network, windows: torch.Tensor, batch_size: int
    ) -> Iterator[tuple[tuple[int, ...], torch.Tensor]]:
        """Yield every combination of mirrored axes with the logits of the windows mirrored along them."""
        subsets = list(chain.from_iterable(combinations(self.flips, n) for n in range(len(self.flips) + 1)))
        together = max(1, batch_size // len(windows))  # small batches are filled with mirrored windows
        for first in range(0, len(subsets), together):
            group = subsets[first : first + together]
            logits = network(torch.cat([self._mirror(windows, axes) for axes in group]))
            yield from zip(group, torch.split(logits, len(windows)), strict=True)

    def _mirror(self, windows: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
        if self.mirrored_inputs and is_mirror_image(axes):
            windows = windows[:, list(self.mirrored_inputs)]
        return _flip(windows, axes)

    def _restored(self, logits: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
        logits = _flip(logits, axes)
        maps = None
        if self.head is not None:
            classes = logits.shape[1] - self.head.channels
            logits, maps = logits[:, :classes], self.head.mirror(logits[:, classes:], axes)
        if self.mirrored_channels and is_mirror_image(axes):
            logits = logits[:, list(self.mirrored_channels)]
        return logits if maps is None else torch.cat([logits, maps], dim=1)


NO_TTA = TTA()


def _flip(windows: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
    return windows.flip([2 + axis for axis in axes]) if axes else windows


def _scaled(windows: torch.Tensor, scale: float) -> torch.Tensor:
    if scale == 1:
        return windows
    size = [max(1, round(n * scale)) for n in windows.shape[2:]]
    return F.interpolate(windows, size=size, mode=linear_mode(len(size)), align_corners=False)
