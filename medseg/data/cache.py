"""Preprocessed cases on disk, opened as memory maps and shared by every process.

Each case is a folder named by what went into it (files' hashes, settings, version): ``image.npy`` (C, *S)
float32, ``label.npy`` (*S) codes, ``voxels.npy`` flat indices of at most ``INDEX_CAP`` voxels of each code,
and ``case.json``. A folder is complete or not there.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from medseg.data.cases import Case
from medseg.data.facts import CaseFacts
from medseg.data.labels import Labels
from medseg.data.preprocess import PreprocessConfig, prepare_image, prepare_label
from medseg.data.readers import read_scan
from medseg.data.scans import as_label_map, onto_grid
from medseg.errors import DataError
from medseg.files import sha256_json, write_folder_atomic
from medseg.geometry import Array

CACHE_VERSION = 1
INDEX_CAP = 10_000


@dataclass(frozen=True)
class CachedCase:
    """One preprocessed case.

    Attributes:
        id: the case.
        folder: where its arrays lie.
        shape: *S.
        spacing: of the preprocessed grid, mm.
        counts: voxels of each code (index 0: ignored, k + 1: class k).
        offsets: where each code's indices begin in ``voxels.npy``; one entry more than ``counts``.
    """

    id: str
    folder: Path
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    counts: tuple[int, ...]
    offsets: tuple[int, ...]

    @cached_property
    def image(self) -> Array:
        """(C, *S) float32, memory-mapped."""
        return np.load(self.folder / "image.npy", mmap_mode="r")

    @cached_property
    def label(self) -> Array:
        """(*S) codes, memory-mapped."""
        return np.load(self.folder / "label.npy", mmap_mode="r")

    @cached_property
    def _voxels(self) -> Array:
        return np.load(self.folder / "voxels.npy", mmap_mode="r")

    def draw_voxel(self, cls: int, rng: np.random.Generator) -> tuple[int, ...]:
        """A voxel of class ``cls``, drawn evenly from the sample kept of them."""
        start, stop = self.offsets[cls + 1], self.offsets[cls + 2]
        flat = int(self._voxels[start + int(rng.integers(stop - start))])
        return tuple(int(i) for i in np.unravel_index(flat, self.shape))

    def __getstate__(self) -> dict[str, object]:
        """Without the open maps: each process opens its own."""
        hidden = ("image", "label", "_voxels")
        return {k: v for k, v in self.__dict__.items() if k not in hidden}


def cache_cases(
    cases: list[Case],
    facts: list[CaseFacts],
    labels: Labels,
    preprocess: PreprocessConfig,
    *,
    channels: int,
    folder: Path,
    progress: Callable[[str], None] = lambda case: None,
) -> list[CachedCase]:
    """Preprocess the cases that are not in the cache yet, and open all of them, in the order given.

    Raises: DataError naming the case that cannot be prepared.
    """

    def one(pair: tuple[Case, CaseFacts]) -> CachedCase:
        case, fact = pair
        target = folder / _key(fact, labels, preprocess, channels)
        if not (target / "case.json").is_file():
            shutil.rmtree(target, ignore_errors=True)  # incomplete
            _prepare(case, target, labels, preprocess, channels)
        progress(case.id)
        return _open(case.id, target)

    with ThreadPoolExecutor(max_workers=min(4, len(os.sched_getaffinity(0)))) as pool:
        return list(pool.map(one, zip(cases, facts, strict=True)))


def _key(fact: CaseFacts, labels: Labels, preprocess: PreprocessConfig, channels: int) -> str:
    ingredients = {
        "version": CACHE_VERSION,
        "image": fact.image_sha256,
        "label": fact.label_sha256,
        "labels": labels.model_dump(mode="json"),
        "order": list(labels.names),
        "preprocess": preprocess.model_dump(mode="json"),
        "channels": channels,
    }
    return sha256_json(ingredients)[:32]


def _prepare(case: Case, target: Path, labels: Labels, preprocess: PreprocessConfig, channels: int) -> None:
    if case.label is None:
        raise DataError(f"case {case.id}: has no label map; training and validation need one")
    try:
        scan = read_scan(case.image)
        prepared = prepare_image(scan, preprocess, channels)
        codes = labels.encode(as_label_map(onto_grid(read_scan(case.label), scan.grid)), str(case.label))
        codes = prepare_label(codes, scan, preprocess)
    except (DataError, ValueError) as error:
        raise DataError(f"case {case.id}: {error}") from error
    voxels, counts, offsets = index_voxels(codes, len(labels.names) + 1)
    facts = {
        "id": case.id,
        "shape": codes.shape,
        "spacing": prepared.grid.spacing,
        "counts": counts,
        "offsets": offsets,
    }
    with write_folder_atomic(target) as temporary:
        np.save(temporary / "image.npy", prepared.array)
        np.save(temporary / "label.npy", codes)
        np.save(temporary / "voxels.npy", voxels)
        (temporary / "case.json").write_text(json.dumps(facts), encoding="utf-8")


def _open(case_id: str, folder: Path) -> CachedCase:
    facts = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    lists = {key: tuple(facts[key]) for key in ("shape", "spacing", "counts", "offsets")}
    return CachedCase(id=case_id, folder=folder, **lists)


def index_voxels(codes: Array, number: int) -> tuple[Array, list[int], list[int]]:
    """Flat indices of at most ``INDEX_CAP`` voxels of each code, evenly spaced over all it has.

    Returns the indices of all codes in one int64 array, the voxels each code has, and where each code's
    indices begin (one entry more than codes).
    """
    flat = codes.ravel()
    counts = np.bincount(flat, minlength=number)
    order = np.argsort(flat, kind="stable")  # a radix sort for small integers
    starts = np.concatenate([[0], np.cumsum(counts)])
    kept = [
        order[start : start + n][np.linspace(0, n - 1, min(n, INDEX_CAP)).astype(np.int64)]
        for start, n in zip(starts[:-1], counts, strict=True)
    ]
    offsets = np.concatenate([[0], np.cumsum([len(k) for k in kept])])
    return np.concatenate(kept).astype(np.int64), counts.tolist(), offsets.tolist()
