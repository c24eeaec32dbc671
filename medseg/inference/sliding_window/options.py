"""Options of the sliding window, and where and in which batches it computes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from medseg.data.loading.sampling.cropping import Border
from medseg.data.preprocessing.pipeline import SliceConfig
from medseg.inference.options import Blend, InferenceConfig
from medseg.inference.sliding_window.overlap_tile import ReceptiveField
from medseg.inference.sliding_window.tta import NO_TTA, TTA
from medseg.instances.heads.base import InstanceHead

_STEP = 32
"""Windows that follow the size of an image are a multiple of this, which the strides of networks divide."""


@dataclass(frozen=True)
class SlidingWindowOptions:
    """Windows over one image, and the form in which their logits are returned.

    Attributes:
        roi_size: window size, voxels; None is the whole image.
        overlap: share of a window that its neighbor covers too.
        blend: weights of a window's voxels: ``gaussian`` or ``constant``; ignored with ``receptive_field``.
        tta: mirrored and scaled windows that are averaged.
        slices: the network is 2D and runs over the first spatial axis, each slice with its neighbors as
            channels; None if it takes the image's axes.
        receptive_field: the network's, for overlap-tile inference; None to blend windows.
        streaming_axis: the axis along which chunks follow one another; None is the one that takes the least
            memory.
        whole_planes: chunks are whole planes; otherwise they may be strips of planes, which can take less
            memory.
        normalize: chunks have the sums of weights, from which mean logits follow; otherwise only the sign and
            order of the logits are right, which is enough for classes and regions and costs less.
        border: what windows contain beyond the border of a smaller image.
        max_roi_size: if given, windows have the image's size, at most this one, instead of ``roi_size``.
    """

    roi_size: tuple[int, ...] | None = None
    overlap: float = 0.5
    blend: Blend = "gaussian"
    tta: TTA = NO_TTA
    slices: SliceConfig | None = None
    receptive_field: ReceptiveField | None = None
    streaming_axis: int | None = None
    whole_planes: bool = True
    normalize: bool = True
    border: Border = "zeros"
    max_roi_size: tuple[int, ...] | None = None

    def window_size(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the size of the windows over an image (*S), or over its slices (*S).

        Example:
            >>> SlidingWindowOptions(max_roi_size=(512, 512)).window_size((100, 1000))
            (128, 512)
        """
        if self.max_roi_size is not None:
            return tuple(
                min(math.ceil(n / _STEP) * _STEP, most)
                for n, most in zip(shape, self.max_roi_size, strict=True)
            )
        return self.roi_size or tuple(shape)

    @classmethod
    def from_config(
        cls,
        config: InferenceConfig,
        *,
        mirrored_channels: tuple[int, ...] = (),
        mirrored_inputs: tuple[int, ...] = (),
        slices: SliceConfig | None = None,
        receptive_field: ReceptiveField | None = None,
        head: InstanceHead | None = None,
    ) -> SlidingWindowOptions:
        """Return the options of a configuration; the other arguments are the model's.

        Args:
            config: window and test-time augmentation.
            mirrored_channels: for each channel of the logits the one it becomes in a mirror image.
            mirrored_inputs: the same for each channel of the image.
            head: dense head, whose maps change in a mirror image.
            slices: as the attribute.
            receptive_field: as the attribute.
        """
        return cls(
            config.roi_size,
            config.overlap,
            config.blend,
            TTA(config.flips, config.scales, mirrored_channels, mirrored_inputs, head),
            slices,
            receptive_field,
            border=config.border or "zeros",
            max_roi_size=config.max_roi_size,
        )


@dataclass(frozen=True)
class Execution:
    """Where windows are computed, and how much memory that may take.

    Attributes:
        device: the network's device.
        batch_size: windows that go through the network at once.
        accumulate_on: the device on which logits are summed; None is ``device``.
        notes: what was reduced after earlier attempts ran out of memory.
    """

    device: torch.device
    batch_size: int = 1
    accumulate_on: torch.device | None = None
    notes: tuple[str, ...] = ()

    @property
    def accumulator_device(self) -> torch.device:
        """The device on which logits are summed."""
        return self.accumulate_on or self.device

    def reduced(self) -> Execution | None:
        """Return an execution that takes less memory; None if there is none.

        On a GPU the batch size is halved down to 1, then logits are summed in the computer's memory. On a CPU,
        where large batches gain little, the batch size becomes 1 at once.
        """
        on_cpu = self.accumulator_device.type == "cpu"
        if self.batch_size > 1 and not (on_cpu and self.notes):
            size = 1 if on_cpu else self.batch_size // 2
            return replace(self, batch_size=size)._with_note(f"windows in batches of {size}")
        if not on_cpu:
            return replace(self, accumulate_on=torch.device("cpu"))._with_note("logits summed on the CPU")
        return None

    def _with_note(self, what: str) -> Execution:
        return replace(self, notes=(*self.notes, f"out of memory: {what}"))
