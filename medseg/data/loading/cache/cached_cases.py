"""Cache of preprocessed cases on disk, memory-mapped and shared by all processes and runs.

Each case is a file named by the hash of its inputs (contents of the files, settings, version). It contains
``image`` (C, *S); ``label`` (*S), the encoded label map; ``voxels``, flat indices of at most ``INDEX_CAP``
voxels of each code; ``soft`` (K, *S) float16 for cases with probabilities; ``objects`` (*S) int32 if objects
are separated. A code is 0 for ignored voxels and k + 1 for class k. Files are written atomically and never
changed or removed, so that any number of trainings can fill and read a folder at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from medseg.data.cases import Case
from medseg.data.chunked_statistics import index_voxels, is_integral
from medseg.data.curation.case_statistics import CACHE_ADVICE, CaseStatistics
from medseg.data.io.multichannel import read_image
from medseg.data.loading.cache.case_file import CaseFile, close_case_files, read_case_file, write_case_file
from medseg.data.loading.cache.compact_storage import (
    CompactImage,
    QuantizedImage,
    quantize_intensities,
    quantize_normalized,
)
from medseg.data.loading.cache.settings import CacheSettings, check_space, preparation_job, stored_bytes
from medseg.data.parallel import Job, run_jobs
from medseg.data.preprocessing.normalization import NormalizeConfig
from medseg.data.preprocessing.pipeline import (
    prepare_image,
    prepare_label_map,
    prepare_probabilities,
    resample_image,
)
from medseg.data.scans import Scan
from medseg.errors import DataError
from medseg.files import explain_write_errors, remove_stale_temporaries
from medseg.geometry import Array
from medseg.progress import QUIET, Progress

INDEX_CAP = 10_000
"""Largest number of voxels whose indices are stored for each code."""


@dataclass(frozen=True)
class CachedCase:
    """One preprocessed case.

    Attributes:
        id: id of the case.
        file: its file in the cache.
        shape: spatial shape *S.
        spacing: spacing of the preprocessed grid, mm.
        counts: number of voxels of each code (index 0: ignored, k + 1: class k).
        offsets: start of the indices of each code in ``voxels``, with one more entry than ``counts``.
        annotated: for each channel of the logits whether the case is annotated for it; empty if for all.
        normalize: voxelwise normalization, applied when voxels are read.
        mask_file: file of the masks of an earlier segmentation; None without.
    """

    id: str
    file: CaseFile = field(repr=False)
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    counts: tuple[int, ...]
    offsets: tuple[int, ...]
    annotated: tuple[bool, ...] = ()
    normalize: NormalizeConfig | None = None
    mask_file: CaseFile | None = field(default=None, repr=False)

    @property
    def image(self) -> CompactImage | Array:
        """(C, *S) float32 image on disk; ``np.asarray`` reads it or a region of it."""
        stored, scale = self.file["image"], self.file.metadata.get("scale")
        if scale is None and self.normalize is None:
            return stored
        ones, zeros = (1.0,) * len(stored), (0.0,) * len(stored)
        offset = self.file.metadata.get("offset")
        quantized = QuantizedImage(stored, tuple(scale or ones), tuple(offset or zeros))
        return CompactImage(quantized, self.normalize)

    @property
    def label(self) -> Array:
        """(*S) encoded label map, memory-mapped."""
        return self.file["label"]

    @property
    def masks(self) -> Array:
        """(*S) mask codes (:mod:`medseg.data.preprocessing.masks`), memory-mapped; 0 without a file."""
        if self.mask_file is None:
            return np.broadcast_to(np.uint8(0), self.shape)
        return self.mask_file["masks"]

    @property
    def has_probabilities(self) -> bool:
        """Whether the case has probabilities in addition to the label map."""
        return "soft" in self.file

    @property
    def probabilities(self) -> Array:
        """(K, *S) float16 probabilities (soft labels), memory-mapped."""
        return self.file["soft"]

    @property
    def objects(self) -> Array:
        """(*S) int32 numbers of objects, memory-mapped; 0 for none, and if objects are not separated."""
        if "objects" not in self.file:
            return np.broadcast_to(np.int32(0), self.shape)
        return self.file["objects"]

    def draw_voxel(self, class_index: int, rng: np.random.Generator) -> tuple[int, ...]:
        """Draw a voxel of a class uniformly from its stored indices."""
        start, stop = self.offsets[class_index + 1], self.offsets[class_index + 2]
        flat = int(self.file["voxels"][start + int(rng.integers(stop - start))])
        return tuple(int(i) for i in np.unravel_index(flat, self.shape))


def cache_cases(
    cases: Sequence[Case],
    statistics: Sequence[CaseStatistics],
    settings: CacheSettings,
    folder: Path,
    progress: Progress = QUIET,
) -> list[CachedCase]:
    """Preprocess the cases that are not in the cache and open all of them, in the given order.

    Cases are prepared in parallel, limited by the number of cores and half of the memory.

    Args:
        cases: the cases.
        statistics: statistics of each case.
        settings: content of the cached cases.
        folder: folder of the cache.
        progress: advances with each case that is in the cache.

    Raises:
        DataError: if a case cannot be prepared.
        DiskFullError: if the disk has not enough space.
    """
    remove_stale_temporaries(folder)
    close_case_files()
    paths = [settings.path(case, folder) for case in statistics]
    files = {path: read_case_file(path) for path in paths}
    jobs: dict[Path, Job[tuple[Case, Path]]] = {}
    needed = 0
    for case, measured, path in zip(cases, statistics, paths, strict=True):
        if files[path] is None and path not in jobs:
            jobs[path] = preparation_job((case, path), measured, settings)
            needed += stored_bytes(measured, settings)
        elif files[path] is not None:
            progress.advance()
    check_space(folder, needed, len(jobs))
    done = run_jobs(
        partial(_prepare_into, settings=settings), list(jobs.values()), lambda item: progress.advance()
    )
    files |= dict(zip(jobs, done, strict=True))
    return [_open_case(case, files[path], settings) for case, path in zip(cases, paths, strict=True)]


def _prepare_into(item: tuple[Case, Path], settings: CacheSettings) -> CaseFile:
    """Preprocess a case into its file, unless another process did so in the meantime."""
    case, path = item
    existing = read_case_file(path)
    if existing is not None:
        return existing
    arrays, metadata = _prepare(case, settings)
    with explain_write_errors(path.parent, CACHE_ADVICE):
        try:
            write_case_file(path, arrays, metadata)
        except PermissionError:  # Windows does not replace files that another process has open
            if read_case_file(path) is None:
                raise
    written = read_case_file(path)
    if written is None:
        raise DataError(
            f"case {case.id}: {path} was damaged or removed right after it was written", case=case.id, path=path
        )
    return written


def _prepare(case: Case, settings: CacheSettings) -> tuple[dict[str, Array], dict[str, object]]:
    """The arrays and the metadata of a case's file."""
    if not case.label_files and not settings.unlabeled:
        raise DataError(f"case {case.id}: has no label map; training and validation require one", case=case.id)
    try:
        scan = read_image(case)
        targets = None if settings.unlabeled else _targets(case, scan, settings)
        if settings.deferred_normalization is not None:
            settings.deferred_normalization(
                np.zeros((settings.channels, 1), np.float32)
            )  # raises if it does not support the channels
            prepared = resample_image(scan, settings.preprocess, settings.channels)
        else:
            prepared = prepare_image(scan, settings.preprocess, settings.channels, keep_raw=True)
    except DataError as error:
        raise DataError(
            f"case {case.id}: {error.message}", hint=error.hint, case=case.id, path=error.path
        ) from error
    except ValueError as error:
        raise DataError(f"case {case.id}: {error}", case=case.id) from error
    if settings.deferred_normalization is not None:
        quantized = quantize_intensities(prepared.array, integral=is_integral(scan.array))
    else:
        quantized = quantize_normalized(prepared.array, None if prepared.resampled else prepared.raw)
    if targets is None:
        targets = _Targets(np.ones(prepared.array.shape[1:], np.uint8))
    image = quantized or prepared.array.astype(np.float32, copy=False)
    return _contents(image, targets, len(settings.labels.names), prepared.spacing)


class _Targets(NamedTuple):
    """What a case teaches: the encoded label map (*S), and probabilities and objects if there are any."""

    codes: Array
    soft: Array | None = None
    objects: Array | None = None


def _targets(case: Case, scan: Scan, settings: CacheSettings) -> _Targets:
    """Read the label files of a case onto the network's grid."""
    reader, preprocess = settings.label_reader, settings.preprocess
    target = reader.read(case, scan)
    assert target is not None
    encoded = settings.labels.encode(target.values, str(case.label_files[0]))
    codes = prepare_label_map(encoded, scan, preprocess)
    if target.objects is not None:  # those of labels that are background or ignored do not count
        objects = np.where(encoded > 1, target.objects, 0)
        return _Targets(codes, objects=prepare_label_map(objects, scan, preprocess))
    if not reader.soft:
        return _Targets(codes)
    soft = prepare_probabilities(reader.read_probabilities(case, scan), scan, preprocess)
    return _Targets((soft.argmax(axis=0) + 1).astype(codes.dtype), soft)


def _contents(
    image: Array | QuantizedImage,
    targets: _Targets,
    classes: int,
    spacing: tuple[float, ...],
) -> tuple[dict[str, Array], dict[str, object]]:
    """The arrays and the metadata of a case's file."""
    codes, soft, objects = targets
    voxels, counts, offsets = index_voxels(codes, classes + 1, INDEX_CAP)
    metadata: dict[str, object] = {
        "shape": codes.shape,
        "spacing": spacing,
        "counts": counts,
        "offsets": offsets,
    }
    if isinstance(image, QuantizedImage):
        metadata |= {"scale": image.scale, "offset": image.offset}
        image = image.levels
    arrays = {"image": image, "label": codes, "voxels": voxels}
    if soft is not None:
        arrays["soft"] = soft.astype(np.float16)
    if objects is not None:
        arrays["objects"] = objects.astype(np.int32)
    return arrays, metadata


def _open_case(case: Case, file: CaseFile | None, settings: CacheSettings) -> CachedCase:
    assert file is not None
    annotated = () if case.labeled is None else settings.labels.annotated_classes(case.labeled)
    return _with_file(case.id, file, annotated, settings.deferred_normalization)


def _with_file(
    name: str, file: CaseFile, annotated: tuple[bool, ...] = (), normalize: NormalizeConfig | None = None
) -> CachedCase:
    lists: Any = {key: tuple(file.metadata[key]) for key in ("shape", "spacing", "counts", "offsets")}
    return CachedCase(id=name, file=file, **lists, annotated=annotated, normalize=normalize)


def write_cached_case(
    path: Path,
    image: Array | QuantizedImage,
    codes: Array,
    classes: int,
    spacing: tuple[float, ...],
    objects: Array | None = None,
) -> CachedCase:
    """Write a cached case from arrays: for data that is not in files, for tests and benchmarks.

    Args:
        path: the file to write.
        image: (C, *S) float32, normalized.
        codes: (*S) encoded label map: 0 for ignored voxels, k + 1 for class k.
        classes: number of classes.
        spacing: spacing along each axis, mm.
        objects: (*S) numbers of objects, if they are separated.
    """
    write_case_file(path, *_contents(image, _Targets(codes, objects=objects), classes, spacing))
    file = read_case_file(path)
    assert file is not None
    return _with_file(path.stem, file)
