"""Default settings for a folder of cases, planned from its statistics.

The spacing and pooling rules are nnU-Net's (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z), the sizes
depend on the device.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medseg.config.schema import RunConfig, load_config
from medseg.data.augmentation.pipeline import Augmenter
from medseg.data.curation.case_statistics import CaseStatistics
from medseg.data.loading.sampling import single_threaded
from medseg.data.preprocessing.modality import is_ct
from medseg.system.device import resolve_device
from medseg.training.dataset import find_labeled_cases, measure_cases

_MOST_LEVELS = 5
_UPDATE_SECONDS = 0.1
_PATCHES_TIMED = 5


def plan_config(data: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Plan settings for a folder of cases.

    Args:
        data: the folder.
        overrides: ``key.sub=value`` settings that are applied last.

    Raises:
        DataError: if the cases cannot be used.
        ConfigError: if an override is invalid.
    """
    declared = load_config(
        {"data": {"path": str(data)}}, [o for o in overrides if o.lstrip().startswith("data.")]
    )
    facts = measure_cases(find_labeled_cases(declared.data)[1], declared.data.cache)
    on_gpu = resolve_device().type == "cuda"
    if facts[0].kind == "picture":
        plan = _plan_pictures(facts, on_gpu)
    elif any(o.replace(" ", "") == "spatial_dims=2" for o in overrides):
        plan = _plan_slices(facts, on_gpu)
    else:
        plan = _plan_volumes(facts, on_gpu)
    plan["data"] = {"path": str(Path(data).resolve()), "workers": _plan_workers(plan, facts[0], on_gpu)}
    plan["train"] |= {"epochs": 200, "iterations": 250} if on_gpu else {"epochs": 20, "iterations": 100}
    return load_config(plan, overrides)


def _plan_pictures(facts: list[CaseStatistics], on_gpu: bool) -> dict[str, Any]:
    median = np.median([f.shape for f in facts], axis=0)
    most = 512 if on_gpu else 256
    patch = [_multiple(min(n, most), 16) for n in median]
    base = 32 if on_gpu else 16
    return {
        "spatial_dims": 2,
        "sampling": {"patch_size": patch},
        "preprocess": {"normalize": {"name": "zscore"}},
        "model": {"name": "unet", "channels": [base * 2**i for i in range(5)]},
        "train": {"batch_size": 8, "ema": 0.99},
    }


def _plan_slices(facts: list[CaseStatistics], on_gpu: bool) -> dict[str, Any]:
    """Plan 2D training on slices across the coarsest axis, with one neighbor on either side."""
    axis = int(np.argmax(np.median([f.spacing for f in facts], axis=0)))
    planes = [f.model_copy(update={"shape": tuple(np.delete(f.shape, axis).tolist())}) for f in facts]
    plan = _plan_pictures(planes, on_gpu)
    plan["preprocess"]["slices"] = {"axis": axis, "neighbors": 1}
    if is_ct(facts):
        plan["preprocess"]["normalize"] = {"name": "ct"}
    return plan


def _plan_volumes(facts: list[CaseStatistics], on_gpu: bool) -> dict[str, Any]:
    spacings = np.array([f.spacing for f in facts])
    shapes = np.array([f.shape for f in facts])
    target = target_spacing(spacings, shapes)
    uniform = bool(np.allclose(spacings, target, rtol=0.01))
    sizes = shapes if uniform else np.round(shapes * spacings / target)
    patch = _patch(np.median(sizes, axis=0), target, 128**3 if on_gpu else 56**3)
    mm = [float(s) for s in target]
    strides = pooling(patch, mm)
    divisors = np.prod(strides, axis=0)
    base = 32 if on_gpu else 16
    return {
        "spatial_dims": 3,
        "sampling": {"patch_size": [_multiple(n, d) for n, d in zip(patch, divisors, strict=True)]},
        "preprocess": {
            "spacing": None if uniform else [float(f"{s:.5g}") for s in mm],
            "normalize": {"name": "ct" if is_ct(facts) else "zscore"},
        },
        "model": {
            "name": "unet",
            "channels": [min(base * 2**i, 320) for i in range(len(strides))],
            "kernel": kernels(strides, mm),
            "stride": strides,
        },
        "train": {"batch_size": 2, "ema": 0.99},
    }


def _plan_workers(plan: dict[str, Any], fact: CaseStatistics, on_gpu: bool) -> int:
    """Plan the processes that prepare patches: none on a single core, one where the updates need the cores, and
    with a GPU as many as keep up with updates of a tenth of a second.
    """
    cores = torch.get_num_threads()
    if cores == 1 or not on_gpu:
        return min(cores - 1, 1)
    config = load_config(plan)
    batch = config.train.batch_size * seconds_of_patch(config, fact.channels)
    return min(cores - 1, max(1, math.ceil(batch / _UPDATE_SECONDS)))


def seconds_of_patch(config: RunConfig, channels: int) -> float:
    """Measure the seconds that the augmentation of one patch takes on one core; the mean of a few."""
    size, rng = config.sampling.patch_size, np.random.default_rng(0)
    augmenter = Augmenter(config.augment, len(size))
    began = time.monotonic()
    with single_threaded():
        for _ in range(_PATCHES_TIMED):
            motion = augmenter.draw_transform(rng, (1.0,) * len(size))
            reach = motion.source_size(size)
            image = torch.zeros(channels, *reach)
            codes = torch.zeros(1, *reach, dtype=torch.int16)
            image, _ = augmenter.apply_spatial(image, codes, motion, size)
            augmenter.apply_intensity(image, rng)
    return (time.monotonic() - began) / _PATCHES_TIMED


def target_spacing(spacings: np.ndarray[Any, Any], shapes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the spacing (3) for (N, 3) cases: the median, finer along a coarse axis of few slices."""
    target = np.median(spacings, axis=0)
    sizes = np.median(shapes, axis=0)
    worst = int(np.argmax(target))
    others = [i for i in range(3) if i != worst]
    if target[worst] > 3 * target[others].max() and sizes[worst] * 3 < sizes[others].min():
        fine = float(np.percentile(spacings[:, worst], 10))
        target[worst] = max(fine, target[others].max() + 1e-5)
    return target


def pooling(patch: Sequence[int], spacing: Sequence[float]) -> list[list[int]]:
    """Return the strides of each level, the first all 1.

    An axis is halved while it has 8 voxels and is not coarser than twice the finest axis that can be halved.
    """
    size, mm = np.array(patch, float), np.array(spacing, float)
    strides = [[1, 1, 1]]
    while len(strides) < _MOST_LEVELS:
        able = size >= 8
        able &= mm < 2 * mm[able].min(initial=np.inf)
        if not able.any():
            break
        stride = np.where(able, 2, 1)
        strides.append([int(s) for s in stride])
        size, mm = np.ceil(size / stride), mm * stride
    return strides


def kernels(strides: list[list[int]], spacing: Sequence[float]) -> list[list[int]]:
    """Return the kernel of each level: 1 along axes at least twice as coarse as the finest, else 3."""
    mm = np.array(spacing, float)
    found: list[list[int]] = []
    wide = np.zeros(3, dtype=bool)
    for stride in strides:
        mm = mm * np.array(stride)
        wide |= mm < 2 * mm.min()
        found.append([3 if w else 1 for w in wide])
    return found


def _patch(median: np.ndarray[Any, Any], spacing: np.ndarray[Any, Any], voxels: int) -> list[int]:
    """Return a patch of about ``voxels``, as close to a cube in mm as the cases allow."""
    patch = np.array(median, float)
    while patch.prod() > voxels:
        mm = patch * spacing
        patch[int(np.argmax(mm))] *= 0.95
    return [max(1, int(np.ceil(n))) for n in patch]


def _multiple(size: float, divisor: int) -> int:
    """Round ``size`` up to a multiple of ``divisor``."""
    return int(np.ceil(size / divisor)) * int(divisor)
