"""Sums over a batch that several processes share, with the gradients of the whole batch."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist

from medseg.system.processes.batch_reduction import BatchReduction


class RankReduction(BatchReduction):
    """Combines values of all processes by collective communication.

    Every process computes the same loss from the results, and its gradients are averaged over the processes
    (DDP, FSDP). A gradient of a result is therefore the same in all processes, and is multiplied by their
    number instead of being communicated.

    Args:
        group: the processes.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group = group
        self.size = group.size()

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over the processes, with gradients."""
        return cast(Any, _Sum).apply(values, self)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Return the mean over the processes, with gradients."""
        return self.sum(values) / self.size

    def concatenate(self, values: torch.Tensor) -> torch.Tensor:
        """Return the values (..., N) of all processes, joined along the last axis, with gradients."""
        if values.dtype == torch.bool:
            return self.concatenate(values.to(torch.uint8)).bool()
        return cast(Any, _Concatenation).apply(values, self)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, values: torch.Tensor, ranks: RankReduction
    ) -> torch.Tensor:
        ctx.size = ranks.size
        total = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=ranks.group)
        return total

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, gradient: torch.Tensor
    ) -> tuple[torch.Tensor, None]:
        return gradient * ctx.size, None


class _Concatenation(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, values: torch.Tensor, ranks: RankReduction
    ) -> torch.Tensor:
        parts = _gather(values, ranks)
        own, sizes = ranks.group.rank(), [part.shape[-1] for part in parts]
        ctx.start, ctx.length, ctx.size = sum(sizes[:own]), sizes[own], ranks.size
        return torch.cat(parts, dim=-1)

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, gradient: torch.Tensor
    ) -> tuple[torch.Tensor, None]:
        return gradient.narrow(-1, ctx.start, ctx.length) * ctx.size, None


def _gather(values: torch.Tensor, ranks: RankReduction) -> list[torch.Tensor]:
    """Return the values (..., N) of each process; they are padded to the same N to be sent."""
    length = torch.tensor(values.shape[-1], device=values.device)
    lengths = [torch.zeros_like(length) for _ in range(ranks.size)]
    dist.all_gather(lengths, length, group=ranks.group)
    sizes = torch.stack(lengths).tolist()
    padded = torch.nn.functional.pad(values.detach(), (0, max(sizes) - values.shape[-1])).contiguous()
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded, group=ranks.group)
    return [part[..., :size] for part, size in zip(parts, sizes, strict=True)]
