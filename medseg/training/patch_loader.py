"""Batches of patches, of labeled and unlabeled images."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

from medseg.data.loading.loader import LoaderOptions, patch_batches
from medseg.data.loading.sampling.patch_dataset import PatchDataset
from medseg.training.device_augmentation import DeviceAugmentation
from medseg.training.model import Batch
from medseg.training.unlabeled import UNLABELED_PREFIX


@dataclass(frozen=True)
class PatchLoader:
    """Loads batches of patches, in worker processes.

    Attributes:
        patches: the patches by address.
        batch_size: patches in a batch, of all processes together.
        workers: processes that prepare patches; 0 prepares them in this one.
        timeout: seconds after which a worker counts as stuck.
        pin_memory: whether batches are in pinned memory.
        unlabeled: patches of unlabeled images, if there are any.
        unlabeled_batch_size: their number in a batch.
        augmentation: applies the intensity transforms to whole batches; None if the workers do.
        rank, ranks: of the processes that share each batch, this one and their number.
    """

    patches: PatchDataset
    batch_size: int
    workers: int
    timeout: float
    pin_memory: bool
    unlabeled: PatchDataset | None = None
    unlabeled_batch_size: int = 0
    augmentation: DeviceAugmentation | None = None
    rank: int = 0
    ranks: int = 1

    def set_patch_size(self, size: tuple[int, ...]) -> None:
        """Set the size of the patches of the batches that are loaded next."""
        self.patches.patch_size = size
        if self.unlabeled is not None:
            self.unlabeled.patch_size = size

    def batches(self, start: int, stop: int | None) -> Iterator[Batch]:
        """Yield the batches from ``start`` to ``stop`` (None: no end), counted over the whole training.

        Patches of unlabeled images are in the same batches; their keys start with ``unlabeled_``.
        """
        options = LoaderOptions(
            batch_size=self.batch_size,
            start=start,
            stop=sys.maxsize if stop is None else stop,
            workers=self.workers,
            timeout=self.timeout,
            pin_memory=self.pin_memory,
            rank=self.rank,
            ranks=self.ranks,
        )
        labeled = patch_batches(self.patches, options)
        if self.augmentation is not None:
            labeled = self.augmentation.batches(labeled)
        if self.unlabeled is None:
            return labeled
        others = patch_batches(self.unlabeled, replace(options, batch_size=self.unlabeled_batch_size))
        return ({**one, **_unlabeled(other)} for one, other in zip(labeled, others, strict=False))


def _unlabeled(batch: Batch) -> Batch:
    return {UNLABELED_PREFIX + key: value for key, value in batch.items()}
