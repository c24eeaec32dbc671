"""Preprocessed cases on disk, opened as memory maps and shared by every process and every run.

Each case is a file named by what went into it (files' hashes, settings, version): ``image`` (C, *S), ``label``
(*S) codes, ``voxels`` flat indices of at most ``INDEX_CAP`` voxels of each code, ``soft`` (K, *S) float16 where
there are probabilities. Files are written whole, never changed and never removed, so that any number of
trainings may fill and read one folder at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from medseg.data.cases import Case
from medseg.data.chunked_statistics import index_voxels, is_integral
from medseg.data.curation.case_statistics import CACHE_ADVICE, CaseStatistics
from medseg.data.io.multichannel import read_image
from medseg.data.labels.reader import AS_STORED, LabelReader
from medseg.data.labels.schema import LabelSchema
from medseg.data.loading.case_file import CaseFile, close_case_files, read_case_file, write_case_file
from medseg.data.loading.compact_storage import (
    CompactImage,
    QuantizedImage,
    quantize_intensities,
    quantize_normalized,
)
from medseg.data.parallel import Job, run_jobs
from medseg.data.preprocessing.normalization import NormalizeConfig
from medseg.data.preprocessing.pipeline import (
    PreprocessConfig,
    prepare_image,
    prepare_label_map,
    prepare_probabilities,
    resample_image,
)
from medseg.data.scans import Scan
from medseg.errors import DataError, DiskFullError
from medseg.files import explain_write_errors, remove_stale_temporaries, sha256_json
from medseg.geometry import Array
from medseg.system.platform import free_space

CACHE_VERSION = 3
INDEX_CAP = 10_000

_READ_SECONDS, _PREPARED_SECONDS, _CASE_SECONDS = 50e-9, 30e-9, 5e-3
"""Time of a voxel read and unpacked, of one prepared and written, and of a case however small, on one core."""
_PREPARED_BYTES = 16
"""Memory of a voxel on the network's grid while it is prepared: float32 twice, codes, label, index."""


@dataclass(frozen=True)
class CachedCase:
    """One preprocessed case.

    Attributes:
        id: the case.
        file: its arrays.
        shape: *S.
        spacing: of the preprocessed grid, mm.
        counts: voxels of each code (index 0: ignored, k + 1: class k).
        offsets: where each code's indices begin in ``voxels``; one entry more than ``counts``.
        known: which channels of the logits the label map tells of; empty means all.
        normalize: applied to what is stored, for schemes that look at one voxel at a time.
    """

    id: str
    file: CaseFile = field(repr=False)
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    counts: tuple[int, ...]
    offsets: tuple[int, ...]
    known: tuple[bool, ...] = ()
    normalize: NormalizeConfig | None = None

    @property
    def image(self) -> CompactImage | Array:
        """(C, *S) float32, on disk: ``np.asarray`` reads it, or a part of it."""
        stored, scale = self.file["image"], self.file.facts.get("scale")
        if scale is None and self.normalize is None:
            return stored
        ones, zeros = (1.0,) * len(stored), (0.0,) * len(stored)
        coded = QuantizedImage(stored, tuple(scale or ones), tuple(self.file.facts.get("offset") or zeros))
        return CompactImage(coded, self.normalize)

    @property
    def label(self) -> Array:
        """(*S) codes, memory-mapped."""
        return self.file["label"]

    @property
    def soft(self) -> bool:
        """Whether there are probabilities beside the label map."""
        return "soft" in self.file

    @property
    def probabilities(self) -> Array:
        """(K, *S) float16 of soft labels, memory-mapped."""
        return self.file["soft"]

    def draw_voxel(self, cls: int, rng: np.random.Generator) -> tuple[int, ...]:
        """A voxel of class ``cls``, drawn evenly from the sample kept of them."""
        start, stop = self.offsets[cls + 1], self.offsets[cls + 2]
        flat = int(self.file["voxels"][start + int(rng.integers(stop - start))])
        return tuple(int(i) for i in np.unravel_index(flat, self.shape))


@dataclass(frozen=True)
class CacheSettings:
    """All that decides what is in a cached case, beside its files.

    Attributes:
        labels: what the values of label files mean.
        preprocess: the grid and the intensities.
        channels: of the network's input.
        label_reader: how label files are read.
    """

    labels: LabelSchema
    preprocess: PreprocessConfig
    channels: int
    label_reader: LabelReader = AS_STORED

    @property
    def late(self) -> NormalizeConfig | None:
        """The normalization, if it looks at one voxel at a time: it is then applied when patches are read, and
        trainings that differ in it, as the folds of a CT dataset do, share what is stored.
        """
        normalize = self.preprocess.normalize
        return normalize if normalize.voxelwise else None

    def key(self, fact: CaseStatistics) -> str:
        """The name of a case's file."""
        preprocess = self.preprocess.model_dump(mode="json")
        ingredients = {
            "version": CACHE_VERSION,
            "image": fact.image_sha256,
            "label": fact.label_sha256,
            "labels": self.labels.model_dump(mode="json", exclude={"colors", "terminology"}),
            "order": list(self.labels.names),
            "preprocess": preprocess if self.late is None else preprocess | {"normalize": "late"},
            "channels": self.channels,
            "label_reader": self.label_reader.model_dump(mode="json"),
        }
        return sha256_json(ingredients)[:32]

    def path(self, fact: CaseStatistics, folder: Path) -> Path:
        """The file of a case in a cache folder."""
        return folder / f"{self.key(fact)}.safetensors"


def cache_cases(
    cases: Sequence[Case],
    facts: Sequence[CaseStatistics],
    settings: CacheSettings,
    folder: Path,
    progress: Callable[[str], None] = lambda case: None,
) -> list[CachedCase]:
    """Preprocess the cases that are not in the cache yet, and open all of them, in the order given.

    Several cases at a time: as many as there are cores and as half of the memory holds.
    Raises: DataError naming the case that cannot be prepared; DiskFullError if the disk has no room.
    """
    remove_stale_temporaries(folder)
    close_case_files()
    paths = [settings.path(fact, folder) for fact in facts]
    files = {path: read_case_file(path) for path in paths}
    jobs: dict[Path, Job[tuple[Case, Path]]] = {}
    needed = 0
    for case, fact, path in zip(cases, facts, paths, strict=True):
        if files[path] is None and path not in jobs:
            jobs[path] = _job((case, path), fact, settings)
            needed += _stored_bytes(fact, settings)
        elif files[path] is not None:
            progress(case.id)
    _check_space(folder, needed, len(jobs))
    done = run_jobs(
        partial(_prepare_into, settings=settings), list(jobs.values()), lambda item: progress(item[0].id)
    )
    files |= dict(zip(jobs, done, strict=True))
    return [_opened(case, files[path], settings) for case, path in zip(cases, paths, strict=True)]


def _prepare_into(item: tuple[Case, Path], settings: CacheSettings) -> CaseFile:
    """Preprocess a case into its file, unless another process has done so meanwhile."""
    case, path = item
    there = read_case_file(path)
    if there is not None:
        return there
    arrays, facts = _prepare(case, settings)
    with explain_write_errors(path.parent, CACHE_ADVICE):
        try:
            write_case_file(path, arrays, facts)
        except PermissionError:  # Windows replaces no file that another process has open
            if read_case_file(path) is None:
                raise
    written = read_case_file(path)
    if written is None:
        raise DataError(f"case {case.id}: {path} was damaged or removed as soon as it was written")
    return written


def _prepare(case: Case, settings: CacheSettings) -> tuple[dict[str, Array], dict[str, object]]:
    """The arrays of a case's file, and its facts."""
    if not case.label_files:
        raise DataError(f"case {case.id}: has no label map; training and validation need one")
    try:
        scan = read_image(case)
        codes, soft = _targets(case, scan, settings)
        if settings.late is not None:
            settings.late(np.zeros((settings.channels, 1), np.float32))  # does it take these channels?
            prepared = resample_image(scan, settings.preprocess, settings.channels)
        else:
            prepared = prepare_image(scan, settings.preprocess, settings.channels, keep_raw=True)
    except (DataError, ValueError) as error:
        raise DataError(f"case {case.id}: {error}") from error
    if settings.late is not None:
        coded = quantize_intensities(prepared.array, integral=is_integral(scan.array))
    else:
        coded = quantize_normalized(prepared.array, None if prepared.resampled else prepared.raw)
    image = coded or prepared.array.astype(np.float32, copy=False)
    return _contents(image, codes, len(settings.labels.names), prepared.spacing, soft)


def _targets(case: Case, scan: Scan, settings: CacheSettings) -> tuple[Array, Array | None]:
    """A case's codes on the network's grid, and its probabilities if there are any."""
    reader, preprocess = settings.label_reader, settings.preprocess
    target = reader.read(case, scan)
    assert target is not None
    codes = settings.labels.encode(target.values, str(case.label_files[0]))
    codes = prepare_label_map(codes, scan, preprocess)
    if not reader.soft:
        return codes, None
    soft = prepare_probabilities(reader.read_probabilities(case, scan), scan, preprocess)
    return (soft.argmax(axis=0) + 1).astype(codes.dtype), soft


def _contents(
    image: Array | QuantizedImage,
    codes: Array,
    classes: int,
    spacing: tuple[float, ...],
    soft: Array | None = None,
) -> tuple[dict[str, Array], dict[str, object]]:
    """The arrays of a case's file, and its facts."""
    voxels, counts, offsets = index_voxels(codes, classes + 1, INDEX_CAP)
    facts: dict[str, object] = {"shape": codes.shape, "spacing": spacing, "counts": counts, "offsets": offsets}
    if isinstance(image, QuantizedImage):
        facts |= {"scale": image.scale, "offset": image.offset}
        image = image.codes
    arrays = {"image": image, "label": codes, "voxels": voxels}
    if soft is not None:
        arrays["soft"] = soft.astype(np.float16)
    return arrays, facts


def _opened(case: Case, file: CaseFile | None, settings: CacheSettings) -> CachedCase:
    assert file is not None
    known = () if case.labeled is None else settings.labels.annotated_classes(case.labeled)
    return _with_file(case.id, file, known, settings.late)


def _with_file(
    name: str, file: CaseFile, known: tuple[bool, ...] = (), normalize: NormalizeConfig | None = None
) -> CachedCase:
    lists = {key: tuple(file.facts[key]) for key in ("shape", "spacing", "counts", "offsets")}
    return CachedCase(id=name, file=file, **lists, known=known, normalize=normalize)


def write_cached_case(
    path: Path, image: Array | QuantizedImage, codes: Array, classes: int, spacing: tuple[float, ...]
) -> CachedCase:
    """A cached case from arrays: ``image`` (C, *S), normalized, and ``codes`` (*S) of ``classes`` classes.

    For data that lies in no files, and for tests and benchmarks.
    """
    write_case_file(path, *_contents(image, codes, classes, spacing))
    file = read_case_file(path)
    assert file is not None
    return _with_file(path.stem, file)


def _job(item: tuple[Case, Path], fact: CaseStatistics, settings: CacheSettings) -> Job[tuple[Case, Path]]:
    """What it costs to prepare a case."""
    read = int(np.prod(fact.shape)) * fact.channels
    prepared = _prepared_voxels(fact, settings) * settings.channels
    changed = prepared != read  # resampled: float32 before and after
    memory = read * (np.dtype(fact.dtype).itemsize + (8 if changed else 0)) + prepared * _PREPARED_BYTES
    if settings.label_reader.soft:
        memory += 12 * len(settings.labels.names) * max(read, prepared)
    seconds = _CASE_SECONDS + read * _READ_SECONDS + prepared * _PREPARED_SECONDS
    return Job(item, memory, seconds)


def _stored_bytes(fact: CaseStatistics, settings: CacheSettings) -> int:
    """Bytes that a case's file takes, about."""
    voxels = _prepared_voxels(fact, settings)
    small = fact.dtype in ("uint8", "int8") and settings.preprocess.spacing is None
    labels = 1 if len(settings.labels.names) < 255 else 2
    soft = 2 * len(settings.labels.names) if settings.label_reader.soft else 0
    return voxels * (settings.channels * (1 if small else 2) + labels + soft)


def _prepared_voxels(fact: CaseStatistics, settings: CacheSettings) -> int:
    """Voxels of one channel of a case on the network's grid, about."""
    voxels = float(np.prod(fact.shape))
    spacing = settings.preprocess.spacing
    if spacing is not None and len(spacing) == len(fact.spacing):
        voxels *= float(np.prod(fact.spacing)) / float(np.prod(spacing))
    return int(voxels)


def _check_space(folder: Path, needed: int, cases: int) -> None:
    """Raises: DiskFullError if the disk of ``folder`` has less room than the cases need."""
    free = free_space(folder)
    if free is not None and needed > free:
        raise DiskFullError(
            f"{folder}: {cases} preprocessed cases need about {needed / 2**30:.1f} GiB, the disk has "
            f"{free / 2**30:.1f} GiB free. Free some space, or set data.cache to a folder on a larger disk."
        )
