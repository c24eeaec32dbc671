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
from medseg.data.images import read_image
from medseg.data.labels import Labels
from medseg.data.preprocess import PreprocessConfig, prepare_image, prepare_label, prepare_probabilities
from medseg.data.targets import AS_STORED, TargetRules, read_probabilities, read_target
from medseg.errors import DataError
from medseg.files import sha256_json, write_folder_atomic
from medseg.geometry import Array

CACHE_VERSION = 2
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
        known: which channels of the logits the label map tells of; empty means all.
        soft: whether there are probabilities beside the label map.
    """

    id: str
    folder: Path
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    counts: tuple[int, ...]
    offsets: tuple[int, ...]
    known: tuple[bool, ...] = ()
    soft: bool = False

    @cached_property
    def image(self) -> Array:
        """(C, *S) float32, memory-mapped."""
        return np.load(self.folder / "image.npy", mmap_mode="r")

    @cached_property
    def label(self) -> Array:
        """(*S) codes, memory-mapped."""
        return np.load(self.folder / "label.npy", mmap_mode="r")

    @cached_property
    def probabilities(self) -> Array:
        """(K, *S) float16 of soft labels, memory-mapped."""
        return np.load(self.folder / "soft.npy", mmap_mode="r")

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
        hidden = ("image", "label", "probabilities", "_voxels")
        return {k: v for k, v in self.__dict__.items() if k not in hidden}


def cache_cases(
    cases: list[Case],
    facts: list[CaseFacts],
    labels: Labels,
    preprocess: PreprocessConfig,
    *,
    channels: int,
    folder: Path,
    rules: TargetRules = AS_STORED,
    progress: Callable[[str], None] = lambda case: None,
) -> list[CachedCase]:
    """Preprocess the cases that are not in the cache yet, and open all of them, in the order given.

    Raises: DataError naming the case that cannot be prepared.
    """

    def one(pair: tuple[Case, CaseFacts]) -> CachedCase:
        case, fact = pair
        target = folder / _key(fact, labels, preprocess, channels, rules)
        if not (target / "case.json").is_file():
            shutil.rmtree(target, ignore_errors=True)  # incomplete
            _prepare(case, target, labels, preprocess, channels, rules)
        progress(case.id)
        return _open(case, target, labels)

    with ThreadPoolExecutor(max_workers=min(4, len(os.sched_getaffinity(0)))) as pool:
        return list(pool.map(one, zip(cases, facts, strict=True)))


def _key(
    fact: CaseFacts, labels: Labels, preprocess: PreprocessConfig, channels: int, rules: TargetRules
) -> str:
    ingredients = {
        "version": CACHE_VERSION,
        "image": fact.image_sha256,
        "label": fact.label_sha256,
        "labels": labels.model_dump(mode="json", exclude={"colours", "codes"}),
        "order": list(labels.names),
        "preprocess": preprocess.model_dump(mode="json"),
        "channels": channels,
        "rules": rules.model_dump(mode="json"),
    }
    return sha256_json(ingredients)[:32]


def _prepare(
    case: Case, target: Path, labels: Labels, preprocess: PreprocessConfig, channels: int, rules: TargetRules
) -> None:
    if not case.label_files:
        raise DataError(f"case {case.id}: has no label map; training and validation need one")
    soft: Array | None = None
    try:
        scan = read_image(case)
        prepared = prepare_image(scan, preprocess, channels)
        target_map = read_target(case, scan, rules)
        assert target_map is not None
        codes = prepare_label(labels.encode(target_map.values, str(case.label_files[0])), scan, preprocess)
        if rules.soft:
            soft = prepare_probabilities(read_probabilities(case, scan, rules), scan, preprocess)
            codes = (soft.argmax(axis=0) + 1).astype(codes.dtype)
    except (DataError, ValueError) as error:
        raise DataError(f"case {case.id}: {error}") from error
    voxels, counts, offsets = index_voxels(codes, len(labels.names) + 1)
    facts = {
        "id": case.id,
        "shape": codes.shape,
        "spacing": prepared.spacing,
        "counts": counts,
        "offsets": offsets,
    }
    with write_folder_atomic(target) as temporary:
        np.save(temporary / "image.npy", prepared.array)
        np.save(temporary / "label.npy", codes)
        np.save(temporary / "voxels.npy", voxels)
        if soft is not None:
            np.save(temporary / "soft.npy", soft.astype(np.float16))
        (temporary / "case.json").write_text(json.dumps(facts), encoding="utf-8")


def _open(case: Case, folder: Path, labels: Labels) -> CachedCase:
    facts = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    lists = {key: tuple(facts[key]) for key in ("shape", "spacing", "counts", "offsets")}
    known = () if case.labelled is None else labels.known(case.labelled)
    soft = (folder / "soft.npy").is_file()
    return CachedCase(id=case.id, folder=folder, **lists, known=known, soft=soft)


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
