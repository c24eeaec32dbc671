"""Common parts of the backbones: settings, interface, planning of strides and dilations, checkpointing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import nn
from torch.utils.checkpoint import checkpoint

from medseg.config.base import Spec
from medseg.errors import ConfigError
from medseg.models.layers.axes import AxisTuple, multiply
from medseg.models.layers.norms import BatchNorm, NormName


class BackboneSpec(Spec):
    """Settings that the backbones share.

    Attributes:
        width: factor on all channels; 1 as in the paper.
        norm: kind of norm.
        norm_groups: maximum number of groups of a ``group`` norm; the largest common divisor with the number
            of channels is used.
        checkpointing: keep only the blocks' inputs in training and recompute the rest in the backward pass
            (Chen et al. 2016, arXiv:1604.06174): less memory, about a third more time.
    """

    width: PositiveFloat = 1.0
    norm: NormName = "batch"
    norm_groups: PositiveInt = 32
    checkpointing: bool = False


class Backbone(nn.Module):
    """Base class of the backbones: networks that map an image to feature maps, finest first.

    Shapes: (B, C, *S) to ``[(B, channels[i], *S'), …]``, S' about S / ``strides[i]``.

    Attributes:
        channels: of each feature map.
        strides: total stride of each feature map, one number per axis.
        minimum_size: the smallest image it accepts, one number per axis.
        checkpointing: recompute the blocks in the backward pass.
    """

    channels: tuple[int, ...]
    strides: tuple[AxisTuple, ...]
    minimum_size: AxisTuple
    checkpointing: bool

    def set_output_stride(self, output_stride: int | None) -> None:
        """Turn strides beyond ``output_stride`` into dilations, in place; the weights stay valid.

        Raises:
            ConfigError: if this backbone cannot reach ``output_stride``.
        """
        if output_stride is not None:
            raise ConfigError(
                f"model.output_stride is {output_stride}, but {type(self).__name__} has no dilated form",
                hint="Set model.output_stride=null.",
            )

    def run(self, block: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """Compute ``block(x)``, recomputed in the backward pass if ``checkpointing`` is on."""
        if self.checkpointing and self.training and torch.is_grad_enabled():
            return checkpointed(block, x)
        return block(x)

    def check_size(self, image: torch.Tensor) -> None:
        """Raise ValueError if ``image`` (B, C, *S) is too small."""
        size = tuple(image.shape[2:])
        if any(length < least for length, least in zip(size, self.minimum_size, strict=True)):
            wanted = tuple(max(pair) for pair in zip(size, self.minimum_size, strict=True))
            raise ValueError(
                f"an image of size {size} is too small for {type(self).__name__}; pad it to {wanted}"
            )


class Stage(NamedTuple):
    """Strides and dilations of a stage.

    Attributes:
        stride: of the first block.
        previous: dilation of the stage before.
        dilation: dilation of the blocks after the stride.
        total: total stride of the stage's feature map.
    """

    stride: AxisTuple
    previous: AxisTuple
    dilation: AxisTuple
    total: AxisTuple


def plan_stages(stem: AxisTuple, strides: Sequence[AxisTuple], output_stride: int | None) -> list[Stage]:
    """Plan the stages after a stem: strides while the total stays within ``output_stride``, then dilations.

    Each axis is planned by itself. Source: Chen et al. 2017, arXiv:1706.05587, section 3.1.

    Args:
        stem: total stride of the stem.
        strides: of the stages.
        output_stride: the largest total stride; None: unlimited.

    Raises:
        ConfigError: if the stem's stride exceeds ``output_stride``.
    """
    if output_stride is not None and max(stem) > output_stride:
        raise ConfigError(
            f"model.output_stride is {output_stride}, but the backbone's stem has stride {max(stem)}",
            hint=f"Set model.output_stride to {max(stem)} or more, or give the stem smaller strides.",
        )
    stages: list[Stage] = []
    total, dilation = stem, (1,) * len(stem)
    for stride in strides:
        wanted = multiply(total, stride)
        kept = tuple(
            step if output_stride is None or length <= output_stride else 1
            for step, length in zip(stride, wanted, strict=True)
        )
        previous = dilation
        dropped = tuple(step // keep for step, keep in zip(stride, kept, strict=True))
        total, dilation = multiply(total, kept), multiply(dilation, dropped)
        stages.append(Stage(kept, previous, dilation, total))
    return stages


def checkpointed(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Compute ``block(x)``, recomputed in the backward pass; running statistics are updated only once."""

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _frozen_statistics(block)

    result = checkpoint(block, x, use_reentrant=False, context_fn=contexts)
    assert isinstance(result, torch.Tensor)
    return result


@contextmanager
def _frozen_statistics(block: nn.Module) -> Iterator[None]:
    """Do not update the running statistics of batch norms within the context."""
    norms = [module for module in block.modules() if isinstance(module, BatchNorm)]
    before = [norm.momentum for norm in norms]
    counts = [None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone() for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, before, counts, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None and count is not None:
                norm.num_batches_tracked.copy_(count)


def repeated(count: int, make: Callable[[int], nn.Module]) -> nn.Sequential:
    """Return ``make(0)``, …, ``make(count - 1)`` as a sequence of layers."""
    return nn.Sequential(*(make(index) for index in range(count)))


def scale_channels(channels: int, width: float) -> int:
    """Return ``channels`` times ``width``, rounded, at least 1."""
    return max(1, round(channels * width))
