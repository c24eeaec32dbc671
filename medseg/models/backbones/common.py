"""What all backbones share: their settings, their interface, the plan of strides and dilations."""

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
from medseg.models.layers.convolution import Steps, product
from medseg.models.layers.norms import BatchNorm, NormName


class BackboneSpec(Spec):
    """Settings that every backbone has.

    Attributes:
        width: factor on all channels; 1 is the paper's.
        norm: kind of norm.
        norm_groups: groups of a ``group`` norm; where they do not divide the channels, the largest common
            divisor.
        checkpointing: keep only the blocks' inputs in training and compute the rest again in the backward
            pass (Chen et al. 2016, arXiv:1604.06174): less memory, about a third more time.
    """

    width: PositiveFloat = 1.0
    norm: NormName = "batch"
    norm_groups: PositiveInt = 32
    checkpointing: bool = False


class Backbone(nn.Module):
    """A network from an image to feature maps, finest first.

    Shapes: (B, C, *S) to ``[(B, channels[i], *S'), …]``, S' about S / ``strides[i]``.

    Attributes:
        channels: of each feature map.
        strides: total stride of each feature map, one number an axis.
        minimum_size: the smallest image it takes, one number an axis.
        checkpointing: whether blocks are computed again in the backward pass.
    """

    channels: tuple[int, ...]
    strides: tuple[Steps, ...]
    minimum_size: Steps
    checkpointing: bool

    def set_output_stride(self, output_stride: int | None) -> None:
        """Turn strides beyond ``output_stride`` into dilations, in place; weights keep their meaning.

        Raises: ConfigError if this backbone cannot reach it.
        """
        if output_stride is not None:
            raise ConfigError(f"{type(self).__name__} has no dilated form: leave output_stride out")

    def run(self, block: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """``block(x)``, computed again in the backward pass if ``checkpointing`` is on."""
        if self.checkpointing and self.training and torch.is_grad_enabled():
            return checkpointed(block, x)
        return block(x)

    def check_size(self, image: torch.Tensor) -> None:
        """Raise ValueError if ``image`` (B, C, *S) is too small."""
        size = tuple(image.shape[2:])
        if any(length < least for length, least in zip(size, self.minimum_size, strict=True)):
            wanted = tuple(max(pair) for pair in zip(size, self.minimum_size, strict=True))
            raise ValueError(f"an image of {size} is too small for {type(self).__name__}: pad it to {wanted}")


class Stage(NamedTuple):
    """How a stage moves: the stride of its first block, and dilations before and after that stride."""

    stride: Steps
    previous: Steps
    dilation: Steps
    total: Steps


def plan_stages(stem: Steps, strides: Sequence[Steps], output_stride: int | None) -> list[Stage]:
    """The stages after a stem: strides while the total stays within ``output_stride``, then dilations.

    Axes are planned one by one. Source: Chen et al. 2017, arXiv:1706.05587, section 3.1.
    Raises: ConfigError if the stem's stride is already beyond ``output_stride``.
    """
    if output_stride is not None and max(stem) > output_stride:
        raise ConfigError(
            f"model.output_stride is {output_stride}, but the backbone's stem has stride {max(stem)}; set "
            f"output_stride to {max(stem)} or more, or give the stem smaller strides"
        )
    stages: list[Stage] = []
    total, dilation = stem, (1,) * len(stem)
    for stride in strides:
        wanted = product(total, stride)
        kept = tuple(
            step if output_stride is None or length <= output_stride else 1
            for step, length in zip(stride, wanted, strict=True)
        )
        previous = dilation
        dropped = tuple(step // keep for step, keep in zip(stride, kept, strict=True))
        total, dilation = product(total, kept), product(dilation, dropped)
        stages.append(Stage(kept, previous, dilation, total))
    return stages


def checkpointed(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """``block(x)`` whose inner values are computed again in the backward pass, statistics counted once."""

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_kept(block)

    result = checkpoint(block, x, use_reentrant=False, context_fn=contexts)
    assert isinstance(result, torch.Tensor)
    return result


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Leave the running statistics of batch norms as they are."""
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
    """``make(0)``, …, ``make(count - 1)`` in a row."""
    return nn.Sequential(*(make(index) for index in range(count)))
