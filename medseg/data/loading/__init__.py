"""Loading of training data: cache of preprocessed cases, patch sampling and worker processes.

The names below are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.system.lazy_imports import lazy_names

if TYPE_CHECKING:
    from medseg.data.loading.cache.cached_cases import CachedCase, cache_cases, write_cached_case
    from medseg.data.loading.cache.settings import CacheSettings
    from medseg.data.loading.loader import LoaderOptions, patch_batches, patch_loader
    from medseg.data.loading.sampling.options import SamplingConfig
    from medseg.data.loading.sampling.patch_dataset import PatchDataset
    from medseg.data.loading.sampling.patch_sampler import PatchSampler
    from medseg.data.loading.workers import report_worker_crash

__all__ = [
    "CacheSettings",
    "CachedCase",
    "LoaderOptions",
    "PatchDataset",
    "PatchSampler",
    "SamplingConfig",
    "cache_cases",
    "patch_batches",
    "patch_loader",
    "report_worker_crash",
    "write_cached_case",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "medseg.data.loading.cache.cached_cases": ("CachedCase", "cache_cases", "write_cached_case"),
        "medseg.data.loading.cache.settings": ("CacheSettings",),
        "medseg.data.loading.loader": ("LoaderOptions", "patch_batches", "patch_loader"),
        "medseg.data.loading.sampling.options": ("SamplingConfig",),
        "medseg.data.loading.sampling.patch_dataset": ("PatchDataset",),
        "medseg.data.loading.sampling.patch_sampler": ("PatchSampler",),
        "medseg.data.loading.workers": ("report_worker_crash",),
    },
)
