"""Settings of cached cases, and the memory, time and disk space that preparing them takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.data.cases import Case
from medseg.data.curation.case_statistics import CaseStatistics
from medseg.data.labels.reader import AS_STORED, LabelReader
from medseg.data.labels.schema import LabelSchema
from medseg.data.parallel import Job
from medseg.data.preprocessing.normalization import NormalizeConfig
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.errors import DiskFullError
from medseg.files import sha256_json
from medseg.system.platform import free_space

CACHE_VERSION = 4
"""Version of the file contents; part of the file names."""

_READ_SECONDS, _PREPARED_SECONDS, _CASE_SECONDS = 50e-9, 30e-9, 5e-3
"""Time to read a voxel, to prepare and write one, and per case, on one core."""
_PREPARED_BYTES = 16
"""Memory per voxel of the network's grid during preparation: float32 twice, levels, label, index."""


@dataclass(frozen=True)
class CacheSettings:
    """Settings that determine the content of a cached case, in addition to its files.

    Attributes:
        labels: meaning of the values of label files.
        preprocess: grid and intensities.
        channels: number of channels of the network's input.
        label_reader: how label files are read.
        unlabeled: whether the cases have no labels; their voxels count as the first class.
    """

    labels: LabelSchema
    preprocess: PreprocessConfig
    channels: int
    label_reader: LabelReader = AS_STORED
    unlabeled: bool = False

    @property
    def deferred_normalization(self) -> NormalizeConfig | None:
        """The normalization if it is voxelwise, otherwise None.

        A voxelwise normalization is applied when patches are read, so that trainings that differ in it, such
        as the folds of a CT dataset, share the cached files.
        """
        normalize = self.preprocess.normalize
        return normalize if normalize.voxelwise else None

    def key(self, case: CaseStatistics) -> str:
        """Return the name of a case's file, without its suffix."""
        preprocess = self.preprocess.model_dump(mode="json")
        ingredients = {
            "version": CACHE_VERSION,
            "image": case.image_sha256,
            "label": case.label_sha256,
            "labels": self.labels.model_dump(mode="json", exclude={"colors", "terminology"}),
            "order": list(self.labels.names),
            "preprocess": preprocess
            if self.deferred_normalization is None
            else preprocess | {"normalize": "deferred"},
            "channels": self.channels,
            "label_reader": self.label_reader.model_dump(mode="json"),
        }
        if self.unlabeled:
            ingredients["unlabeled"] = True
        return sha256_json(ingredients)[:32]

    def path(self, case: CaseStatistics, folder: Path) -> Path:
        """Return the path of a case's file in a cache folder."""
        return folder / f"{self.key(case)}.safetensors"


def preparation_job(
    item: tuple[Case, Path], case: CaseStatistics, settings: CacheSettings
) -> Job[tuple[Case, Path]]:
    """Estimate the memory and the time to prepare a case."""
    read = int(np.prod(case.shape)) * case.channels
    prepared = _prepared_voxels(case, settings) * settings.channels
    resampled = prepared != read  # float32 before and after
    memory = read * (np.dtype(case.dtype).itemsize + (8 if resampled else 0)) + prepared * _PREPARED_BYTES
    if settings.label_reader.soft:
        memory += 12 * len(settings.labels.names) * max(read, prepared)
    seconds = _CASE_SECONDS + read * _READ_SECONDS + prepared * _PREPARED_SECONDS
    return Job(item, memory, seconds)


def stored_bytes(case: CaseStatistics, settings: CacheSettings) -> int:
    """Approximate size of a case's file, in bytes."""
    voxels = _prepared_voxels(case, settings)
    small = case.dtype in ("uint8", "int8") and settings.preprocess.spacing is None
    labels = 1 if len(settings.labels.names) < 255 else 2
    soft = 2 * len(settings.labels.names) if settings.label_reader.soft else 0
    labels += 0 if settings.label_reader.instances is None else 4
    return voxels * (settings.channels * (1 if small else 2) + labels + soft)


def _prepared_voxels(case: CaseStatistics, settings: CacheSettings) -> int:
    """Approximate number of voxels of one channel on the network's grid."""
    voxels = float(np.prod(case.shape))
    spacing = settings.preprocess.spacing
    if spacing is not None and len(spacing) == len(case.spacing):
        voxels *= float(np.prod(case.spacing)) / float(np.prod(spacing))
    return int(voxels)


def check_space(folder: Path, needed: int, cases: int) -> None:
    """Raise a DiskFullError if the disk of ``folder`` has less space than the cases need."""
    free = free_space(folder)
    if free is not None and needed > free:
        raise DiskFullError(
            f"{folder}: {cases} preprocessed cases need about {needed / 2**30:.1f} GiB, the disk has "
            f"{free / 2**30:.1f} GiB free",
            hint="Free some space, or set data.cache to a folder on a larger disk.",
            path=folder,
        )
