"""Unlabeled images in a training: their preparation, and the loss of a mean teacher."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from medseg.data.cases import join_problems
from medseg.data.curation.case_statistics import CaseStatistics, collect_statistics
from medseg.data.loading.cache.cached_cases import CachedCase, cache_cases
from medseg.data.loading.cache.settings import CacheSettings
from medseg.errors import ChangedDataError, DataError
from medseg.files import write_json
from medseg.inference.batch.input_discovery import find_inputs
from medseg.progress import Progress, plural, stage
from medseg.system.processes.batch_reduction import WHOLE_BATCH, BatchReduction
from medseg.training.dataset.preparation import PreparedDataset

_LOGGER = logging.getLogger(__name__)

UNLABELED_PREFIX = "unlabeled_"
"""What the keys of unlabeled patches in a batch start with."""


@dataclass(frozen=True)
class UnlabeledRecord:
    """The record of the unlabeled images of a run: every later patch depends on their number and order.

    Attributes:
        file: JSON, id → hash of the image.
        resumed: whether a run is resumed.
        accept_changes: whether it continues with changed images.
        written: whether this process writes the file.
    """

    file: Path
    resumed: bool = False
    accept_changes: bool = False
    written: bool = True

    def update(self, images: list[CaseStatistics]) -> None:
        """Record the images; those of a resumed run must be the recorded ones.

        Raises:
            ChangedDataError: that lists the changes, unless they are accepted.
        """
        now = {one.id: one.image_sha256 for one in images}
        if self.resumed and self.file.is_file():
            before: dict[str, str] = json.loads(self.file.read_text(encoding="utf-8"))
            lines = [
                f"{name}: {'new' if name not in before else 'missing' if name not in now else 'changed'}"
                for name in sorted(before.keys() | now.keys())
                if before.get(name) != now.get(name)
            ]
            if lines and not self.accept_changes:
                title = f"{self.file}: the unlabeled images changed since the start of this run"
                hint = (
                    "Restore the images, start a new run in another folder, or continue with "
                    "--accept-new-cases (in Python accept_new_cases=True)."
                )
                raise ChangedDataError(join_problems(title, lines), hint=hint, path=self.file)
            for line in lines:
                _LOGGER.warning("the unlabeled images changed: %s", line)
        if self.written:
            write_json(self.file, now)


def cache_unlabeled(
    images: Path, dataset: PreparedDataset, cache: Path, progress: Progress, record: UnlabeledRecord
) -> list[CachedCase]:
    """Preprocess the images of a folder that are not in the cache yet, and open all of them.

    Images of validation and test cases are left out: the scores of these cases would no longer be those of
    images that the training has not seen.

    Args:
        images: folder of images without labels.
        dataset: the labeled dataset, whose preprocessing is used.
        cache: folder of the cache.
        progress: receives the measured and the preprocessed cases.
        record: of the images of the run.

    Raises:
        DataError: if there are no images, they cannot be used, or those of a resumed run changed.
    """
    cases = find_inputs([images])
    with stage(progress, len(cases), "checking unlabeled images") as shown:
        statistics = collect_statistics(cases, cache / "facts", progress=shown)
    held_out = {one.voxels_sha256 for part in ("val", "test") for one in dataset.part(part)[1]}
    kept = [i for i, one in enumerate(statistics) if one.voxels_sha256 not in held_out]
    if len(kept) < len(cases):
        _LOGGER.info(
            "%s of validation and test cases in %s: left out", plural(len(cases) - len(kept), "image"), images
        )
    cases, statistics = [cases[i] for i in kept], [statistics[i] for i in kept]
    _check_kind(images, statistics, dataset.statistics[0])
    record.update(statistics)
    settings = CacheSettings(dataset.labels, dataset.preprocess, dataset.channels, unlabeled=True)
    with stage(progress, len(cases), "preparing unlabeled images") as shown:
        return cache_cases(cases, statistics, settings, cache, shown)


def consistency(
    logits: torch.Tensor,
    taught: torch.Tensor,
    inside: torch.Tensor,
    *,
    sigmoid: bool,
    reduction: BatchReduction = WHOLE_BATCH,
) -> torch.Tensor:
    """Compute the mean squared difference of two networks' probabilities, over classes and voxels.

    Args:
        logits: (B, K, *S) of the network.
        taught: (B, K, *S) of the teacher.
        inside: (B, 1, *S) bool, the voxels that count.
        sigmoid: whether the channels are regions; otherwise they are classes.
        reduction: combines sums over the samples of several processes that share a batch.

    Returns:
        A scalar; 0 if no voxel counts.
    """
    one, two = (each.float().sigmoid() if sigmoid else each.float().softmax(dim=1) for each in (logits, taught))
    squares = (one - two).square().mean(dim=1, keepdim=True) * inside
    return reduction.sum(squares.sum()) / reduction.sum(inside.sum()).clamp(min=1)


def _check_kind(folder: Path, images: list[CaseStatistics], labeled: CaseStatistics) -> None:
    if not images:
        raise DataError(f"{folder}: all images are those of validation or test cases", path=folder)
    if images[0].kind != labeled.kind:
        raise DataError(
            f"train.unlabeled.path: {folder} contains {images[0].kind}s, the dataset contains {labeled.kind}s",
            path=folder,
        )
