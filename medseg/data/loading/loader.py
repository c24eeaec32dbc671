"""Data loaders that yield the batches of a patch dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from monai.data.dataloader import DataLoader
from torch.utils.data import Sampler

from medseg.data.loading.sampling.patch_dataset import PatchDataset
from medseg.data.loading.workers import CaseTracker, ReportingDataset, Sample, collate, supervise_batches


class AddressSampler(Sampler[list[int]]):
    """Yields the sample addresses of the batches ``start`` to ``stop``, counted over the whole training.

    Several processes share each batch: process ``rank`` of ``ranks`` yields a contiguous part of its addresses,
    so that the batch is the same for any number of processes.
    """

    def __init__(self, batch_size: int, start: int, stop: int, rank: int = 0, ranks: int = 1) -> None:
        self.start, self.stop, self.batch_size = start, stop, batch_size
        self.part = range(batch_size * rank // ranks, batch_size * (rank + 1) // ranks)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the addresses of each batch, in order."""
        for batch in range(self.start, self.stop):
            yield [batch * self.batch_size + position for position in self.part]

    def __len__(self) -> int:
        """Number of batches."""
        return self.stop - self.start


@dataclass(frozen=True)
class LoaderOptions:
    """Which batches are loaded, and how.

    Attributes:
        batch_size: samples per batch, of all processes together.
        start: first batch, counted over the whole training.
        stop: batch to stop before.
        workers: worker processes; 0 loads in the calling process.
        timeout: seconds without a batch after which a worker counts as stuck; 0 waits forever.
        pin_memory: whether to copy batches to pinned memory.
        rank, ranks: of the processes that share each batch, this one and their number.
    """

    batch_size: int
    start: int
    stop: int
    workers: int = 0
    timeout: float = 600.0
    pin_memory: bool = False
    rank: int = 0
    ranks: int = 1


def patch_batches(dataset: PatchDataset, options: LoaderOptions) -> Iterator[Sample]:
    """Yield the batches of :func:`patch_loader` and report failures of workers with the case they prepared.

    Raises:
        MedsegError: see :func:`medseg.data.loading.workers.supervise_batches`.
    """
    dataset.tracker = CaseTracker(options.workers)
    names = [case.id for case in dataset.cases]
    loader = patch_loader(dataset, options)
    return supervise_batches(iter(loader), dataset.tracker, names, timeout=options.timeout)


def patch_loader(dataset: PatchDataset, options: LoaderOptions) -> DataLoader:
    """Create a data loader of a patch dataset.

    It neither uses nor changes the global random state, so that a training resumed at ``options.start`` gets
    the same batches.
    """
    workers: dict[str, Any] = (
        {"num_workers": options.workers, "prefetch_factor": 4, "timeout": options.timeout}
        if options.workers
        else {}
    )
    return DataLoader(
        ReportingDataset(dataset),
        batch_sampler=AddressSampler(
            options.batch_size, options.start, options.stop, options.rank, options.ranks
        ),
        collate_fn=collate,
        pin_memory=options.pin_memory,
        generator=torch.Generator().manual_seed(0),
        **workers,
    )
