"""Check and measure each case of a dataset once, before anything is trained."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from nibabel.orientations import io_orientation

from medseg.config.base import Spec
from medseg.data.cases import Case, join_problems
from medseg.data.chunked_statistics import count_values
from medseg.data.curation.object_facts import ObjectFacts, measure_object_facts
from medseg.data.curation.scan_features import ScanFeatures, measure_scan
from medseg.data.io.content_digest import content_digest, content_files
from medseg.data.io.multichannel import read_image
from medseg.data.io.pictures import count_channels
from medseg.data.labels.foreground_values import ForegroundValues
from medseg.data.labels.reader import AS_STORED, LabelMap, LabelReader
from medseg.data.parallel import Job, run_jobs
from medseg.data.scans import Kind, Scan, check_finite
from medseg.errors import DataError
from medseg.files import explain_write_errors, remove_stale_temporaries, sha256_json, write_atomic
from medseg.geometry import Array
from medseg.progress import QUIET, Progress

_VERSION = 2
"""Version of the measurements; part of the names of their files."""
_OBJECTS_VERSION = "objects 1"
"""Version of the measurements of objects; part of the names of the files of cases that have them."""
_SAMPLE = 500
NONZERO = ForegroundValues()
"""Every label value but 0 is foreground."""

CACHE_ADVICE = "set data.cache to a folder on another disk (what was measured and prepared so far stays)"
"""Hint of the error if a cache cannot be written."""

_UNPACKED = 8
"""Approximate bytes of memory per byte of a compressed file while a case is measured."""
_STORED_SECONDS, _CASE_SECONDS, _BYTE_SECONDS = 5e-4, 5e-3, 40e-9
"""Seconds on one core to read stored statistics, to measure a case, and per byte of its files."""


class CaseStatistics(Spec):
    """Measurements of one case.

    Attributes:
        id: the case.
        image_sha256, label_sha256: digests of the files' bytes.
        voxels_sha256: digest of the image's voxels, independent of the file format.
        kind: volume or picture.
        shape, spacing: along right, anterior, superior for volumes (mm), rows and columns for pictures.
        channels: of the image.
        dtype, label_dtype: of the voxels as stored; ``masks``, ``segments``, ``polygons`` for other labels.
        intensities: the lowest and the highest of the image.
        label_counts: value in the label file → voxels.
        foreground: up to 500 intensities of voxels of the labels that count (``ForegroundValues``), all
            channels.
        channel_names: names that the dataset or the files declare; empty if there are none.
        appearance: intensities, sharpness and color of the image.
        objects: numbered objects; None if the labels are not read as objects.
    """

    id: str
    image_sha256: str
    label_sha256: str | None
    voxels_sha256: str
    kind: Kind
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    channels: int
    dtype: str
    label_dtype: str | None
    intensities: tuple[float, float]
    label_counts: dict[int, int]
    foreground: tuple[float, ...]
    channel_names: tuple[str, ...] = ()
    appearance: ScanFeatures | None = None
    objects: ObjectFacts | None = None


def collect_statistics(
    cases: list[Case],
    store: Path,
    reader: LabelReader = AS_STORED,
    foreground: ForegroundValues = NONZERO,
    *,
    progress: Progress = QUIET,
) -> list[CaseStatistics]:
    """Check and measure every case; cases measured before are read from ``store``.

    Args:
        cases: the cases.
        store: folder of measured cases, one JSON file each.
        reader: how label files are read.
        foreground: label values whose voxels count in statistics of intensities.
        progress: advances with each case that is done.

    Raises:
        DataError: cases have differing grids, non-finite voxels or unreadable files; all are listed.
    """
    remove_stale_temporaries(store)
    problems: list[str] = []
    statistics: list[CaseStatistics] = []
    measuring = Measuring(reader, foreground)
    function = partial(_measured_or_error, store=store, measuring=measuring)
    jobs = [_job(case, store, measuring) for case in cases]
    results = run_jobs(function, jobs, lambda case: progress.advance())
    for case, result in zip(cases, results, strict=True):
        if isinstance(result, DataError):
            problems.append(f"case {case.id}: {result}")
        else:
            statistics.append(result)
    if problems:
        raise DataError(join_problems("cases that cannot be used", problems))
    _check_same_kind(statistics)
    return statistics


@dataclass(frozen=True)
class Measuring:
    """How cases are measured.

    Attributes:
        reader: how label files are read.
        foreground: label values whose voxels count in statistics of intensities.
    """

    reader: LabelReader = AS_STORED
    foreground: ForegroundValues = NONZERO


DEFAULT_MEASURING = Measuring()


def measure_case(case: Case, measuring: Measuring = DEFAULT_MEASURING) -> CaseStatistics:
    """Read, check and measure one case.

    Raises: DataError or GeometryError if the case cannot be used.
    """
    scan = read_image(case)
    check_finite(scan)
    label_map = measuring.reader.read(case, scan)
    low, high = float(scan.array.min()), float(scan.array.max())
    order = np.argsort(io_orientation(scan.grid.affine)[:, 0]) if scan.kind == "volume" else (0, 1)
    sample: tuple[float, ...] = ()
    mask = None if label_map is None else measuring.foreground.mask(label_map.values)
    if mask is not None:
        sample = _foreground_sample(scan.array, mask)
    return CaseStatistics(
        id=case.id,
        image_sha256=image_digest(case),
        label_sha256=label_digest(case),
        voxels_sha256=_voxels_digest(scan.array),
        kind=scan.kind,
        shape=tuple(scan.grid.shape[i] for i in order),
        spacing=tuple(scan.grid.spacing[i] for i in order),
        channels=count_channels(scan),
        dtype=str(scan.array.dtype),
        label_dtype=None if label_map is None else label_map.dtype,
        intensities=(low, high),
        label_counts={} if label_map is None else count_values(label_map.values),
        foreground=sample,
        channel_names=case.channel_names or ((scan.modality,) if scan.modality else ()),
        appearance=measure_scan(scan, mask),
        objects=_object_facts(label_map, scan),
    )


def _object_facts(label_map: LabelMap | None, scan: Scan) -> ObjectFacts | None:
    if label_map is None or label_map.objects is None:
        return None
    return measure_object_facts(label_map.objects, scan.grid.spacing)


def label_digest(case: Case) -> str | None:
    """Return the SHA-256 of a case's label files (with their names, if each label has its own file)."""
    if case.masks:
        return sha256_json({name: content_digest(path) for name, path in case.masks.items()})
    return None if case.label is None else content_digest(case.label)


def image_digest(case: Case) -> str:
    """Return the SHA-256 of a case's image files and foreground mask."""
    digests = [content_digest(path) for path in (*case.images, case.foreground) if path is not None]
    return digests[0] if len(digests) == 1 else sha256_json(digests)


def _voxels_digest(array: Array) -> str:
    digest = hashlib.sha256(f"{array.dtype} {array.shape}".encode())
    for plane in np.moveaxis(array, -1, 0):  # NIfTI's order, in which planes are contiguous
        digest.update(np.ascontiguousarray(plane.T).data)
    return digest.hexdigest()


def total_counts(facts: Iterable[CaseStatistics]) -> Counter[int]:
    """Return value → number of voxels over all cases."""
    total: Counter[int] = Counter()
    for case in facts:
        total.update(case.label_counts)
    return total


def _measured_or_error(case: Case, store: Path, measuring: Measuring) -> CaseStatistics | DataError:
    stored = _stored(case, store, measuring)
    if stored.is_file():
        with suppress(ValueError):  # written by another version, or truncated: measured again
            return CaseStatistics.model_validate_json(stored.read_text(encoding="utf-8"))
    try:
        statistics = measure_case(case, measuring)
    except DataError as error:
        return error
    with explain_write_errors(store, CACHE_ADVICE), write_atomic(stored, sync=False) as temporary:
        temporary.write_text(statistics.model_dump_json(), encoding="utf-8")
    return statistics


def _job(case: Case, store: Path, measuring: Measuring) -> Job[Case]:
    """Return the cost of measuring a case, or of reading what was measured."""
    return Job(case, 0, _STORED_SECONDS) if _stored(case, store, measuring).is_file() else measuring_job(case)


def measuring_job(case: Case) -> Job[Case]:
    """Return the cost of measuring a case, estimated from the size of its files."""
    size = sum(status.st_size for _, status in _files(case) if status is not None)
    return Job(case, size * _UNPACKED, _CASE_SECONDS + size * _BYTE_SECONDS)


def _stored(case: Case, store: Path, measuring: Measuring) -> Path:
    """Return the file of a case's statistics, named by its files' paths, sizes and times, and by how it is
    measured.
    """
    named = [str(path) for path in (*case.images, *case.label_files)]
    rest = [list(case.masks), list(case.channel_names), named]
    settings = [part.model_dump(mode="json") for part in (measuring.reader, measuring.foreground)]
    entries: list[object] = [_VERSION, case.id, *settings, *rest]
    if measuring.reader.instances is not None:
        entries.append(_OBJECTS_VERSION)
    entries += [
        [str(path), str(path.resolve()), status and status.st_size, status and status.st_mtime_ns]
        for path, status in _files(case)
    ]
    return store / f"{sha256_json(entries)[:32]}.json"


def _files(case: Case) -> list[tuple[Path, os.stat_result | None]]:
    """List the files of a case, with those that headers name and folders hold; status None if missing."""
    found: list[tuple[Path, os.stat_result | None]] = []
    for path in (*case.images, *case.label_files):
        for file in content_files(path):
            found.append((file, file.stat() if file.exists() else None))
    return found


def _foreground_sample(array: Array, foreground: Array) -> tuple[float, ...]:
    inside = np.flatnonzero(foreground.ravel())
    if len(inside) > _SAMPLE:
        inside = inside[np.linspace(0, len(inside) - 1, _SAMPLE).astype(int)]
    return tuple(float(v) for channel in array for v in channel.ravel()[inside])


def _check_same_kind(facts: list[CaseStatistics]) -> None:
    kinds = {f.kind for f in facts}
    if len(kinds) > 1:
        first = {kind: next(f.id for f in facts if f.kind == kind) for kind in kinds}
        raise DataError(f"pictures and volumes are mixed in one dataset: {first}. Keep them in two folders.")
    channels = {f.channels: f.id for f in facts}
    if kinds == {"volume"} and len(channels) > 1:
        shown = ", ".join(f"{case} has {n}" for n, case in sorted(channels.items()))
        raise DataError(f"the cases differ in channels: {shown}. Every case needs the same channels.")
