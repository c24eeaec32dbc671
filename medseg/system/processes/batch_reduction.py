"""Sums over a batch that several processes share."""

from __future__ import annotations

import torch


class BatchReduction:
    """Combines what the processes of a training computed from their samples of one batch.

    This class is for one process, whose samples are the whole batch: every method returns its argument. The
    processes of a distributed training use :class:`medseg.training.distributed.ranks.RankReduction`.

    Every process must call the same methods in the same order, and compute the same loss from the results.

    Example:
        >>> BatchReduction().sum(torch.tensor([3.0]))
        tensor([3.])
    """

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over the processes, with gradients."""
        return values

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Return the mean over the processes, with gradients."""
        return values

    def concatenate(self, values: torch.Tensor) -> torch.Tensor:
        """Return the values (..., N) of all processes, joined along the last axis, with gradients.

        The processes' values may differ in N only.
        """
        return values


WHOLE_BATCH = BatchReduction()
"""The reduction of a single process."""
