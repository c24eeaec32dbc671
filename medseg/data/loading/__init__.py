"""Loading of training data: cache of preprocessed cases, patch sampling, augmentation and worker processes.

The names below are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medseg.data.loading.augmentation import AugmentConfig, Augmenter, augmentation_preset
    from medseg.data.loading.cache import CachedCase, CacheSettings, cache_cases, write_cached_case
    from medseg.data.loading.loader import LoaderOptions, patch_batches, patch_loader
    from medseg.data.loading.sampling import PatchDataset, PatchPlan, SamplingConfig
    from medseg.data.loading.workers import report_worker_crash

_HOME = {
    "AugmentConfig": "medseg.data.loading.augmentation",
    "Augmenter": "medseg.data.loading.augmentation",
    "CacheSettings": "medseg.data.loading.cache",
    "CachedCase": "medseg.data.loading.cache",
    "LoaderOptions": "medseg.data.loading.loader",
    "PatchDataset": "medseg.data.loading.sampling",
    "PatchPlan": "medseg.data.loading.sampling",
    "SamplingConfig": "medseg.data.loading.sampling",
    "augmentation_preset": "medseg.data.loading.augmentation",
    "cache_cases": "medseg.data.loading.cache",
    "patch_batches": "medseg.data.loading.loader",
    "patch_loader": "medseg.data.loading.loader",
    "report_worker_crash": "medseg.data.loading.workers",
    "write_cached_case": "medseg.data.loading.cache",
}

__all__ = [
    "AugmentConfig",
    "Augmenter",
    "CacheSettings",
    "CachedCase",
    "LoaderOptions",
    "PatchDataset",
    "PatchPlan",
    "SamplingConfig",
    "augmentation_preset",
    "cache_cases",
    "patch_batches",
    "patch_loader",
    "report_worker_crash",
    "write_cached_case",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'medseg.data.loading' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
