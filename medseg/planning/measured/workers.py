"""Worker processes and threads, from measured times."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import torch

from medseg.config.schema import RunConfig
from medseg.data.augmentation.pipeline import Augmenter
from medseg.data.loading.sampling.patch_dataset import single_threaded
from medseg.geometry import Array
from medseg.instances.heads.base import build_head
from medseg.instances.options import InstanceTask
from medseg.planning.measured.step_timer import StepCost, Timer
from medseg.planning.network_candidates import Candidate
from medseg.system.processes.threads import use_threads

_PATCHES_TIMED = 5
_OBJECT = 16
"""Voxels from one to the next of the objects whose maps are timed."""
_GAIN = 0.95
"""Fewer threads are used if an update takes at most this share of the time."""


def plan_workers(cores: int, patch_seconds: float, batch_size: int, update_seconds: float) -> int:
    """Plan the processes that prepare patches: as many as keep up with the updates, but one core is left.

    Args:
        cores: that this process may use.
        patch_seconds: time of the augmentation of one patch on one core.
        batch_size: patches of an update.
        update_seconds: time of an update.

    Example:
        >>> plan_workers(cores=8, patch_seconds=0.14, batch_size=2, update_seconds=0.1)
        3
    """
    if cores == 1:
        return 0
    return min(cores - 1, max(1, math.ceil(batch_size * patch_seconds / update_seconds)))


def seconds_of_patch(config: RunConfig, channels: int) -> float:
    """Measure the seconds that one patch takes on one core, the mean of a few.

    They are those of the augmentation, and of the maps of objects if a network is to tell them apart.
    """
    size, rng = config.sampling.patch_size, np.random.default_rng(0)
    augmenter = Augmenter(config.augment, len(size))
    head = build_head(config.task, len(size)) if isinstance(config.task, InstanceTask) else None
    objects = _grid_of_objects(size)
    began = time.monotonic()
    with single_threaded():
        for _ in range(_PATCHES_TIMED):
            motion = augmenter.draw_transform(rng, (1.0,) * len(size), size)
            reach = motion.source_size(size)
            image = torch.zeros(channels, *reach)
            codes = torch.zeros(1, *reach, dtype=torch.int16)
            image, _ = augmenter.apply_spatial(image, codes, motion, size)
            augmenter.apply_intensity(image, rng)
            if head is not None:
                head.targets(objects, (1.0,) * len(size))
    return (time.monotonic() - began) / _PATCHES_TIMED


def _grid_of_objects(size: Sequence[int]) -> Array:
    """Return a label map (*S) of cubes with gaps between them."""
    voxels = np.indices(size)
    numbers = np.ravel_multi_index(tuple(voxels // _OBJECT), tuple(-(-n // _OBJECT) for n in size)) + 1
    inside = (voxels % _OBJECT >= _OBJECT // 4).all(axis=0)
    return np.where(inside, numbers, 0).astype(np.int32)


def plan_threads(timer: Timer, candidate: Candidate, cost: StepCost, cores: int) -> tuple[int | None, float]:
    """Plan the CPU threads: half of the cores if that is faster, as with two hardware threads per core.

    Args:
        timer: measures a candidate on the CPU.
        candidate: the chosen one.
        cost: of an update with one thread per core.
        cores: that this process may use.

    Returns:
        The setting ``train.threads`` and the seconds of an update with it.
    """
    if cores < 4:
        return None, cost.seconds
    with use_threads(cores // 2):
        fewer = timer.measure(candidate)
    if fewer is not None and fewer.seconds < _GAIN * cost.seconds:
        return cores // 2, fewer.seconds
    return None, cost.seconds
