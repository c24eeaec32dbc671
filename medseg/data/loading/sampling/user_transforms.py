"""Transforms of your own, applied to every training sample after the augmentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from medseg.data.loading.workers import Sample
from medseg.errors import ConfigError

SampleTransform = Callable[[dict[str, Any]], dict[str, Any]]
"""Maps a sample to a sample; see :func:`apply_transforms`."""


def apply_transforms(sample: Sample, transforms: Sequence[SampleTransform], rng: np.random.Generator) -> Sample:
    """Apply transforms to a sample, one after the other.

    A transform receives a dict with ``image`` (C, *P) float32, ``label`` (1, *P) int16 with -1 where ignored,
    and ``rng``, the random generator of the sample: a result that is drawn from it is the same in every run
    with the same seed, also after a resume. A random transform of MONAI is seeded from it.

    Args:
        sample: the sample.
        transforms: each returns the changed sample, or a new one with the same keys and shapes.
        rng: random generator of the sample.

    Raises:
        ConfigError: if a transform returns something else.
    """
    for transform in transforms:
        seed = getattr(transform, "set_random_state", None)
        if seed is not None:  # MONAI
            seed(seed=int(rng.integers(2**32)))
        changed = transform({**sample, "rng": rng})
        sample = _check(changed, sample, getattr(transform, "__qualname__", type(transform).__name__))
    return sample


def _check(changed: object, sample: Sample, name: str) -> Sample:
    if not isinstance(changed, dict):
        raise ConfigError(
            f"transform {name}: returned {type(changed).__name__}; expected the sample, a dict",
            hint="Let the function return the sample that it received.",
        )
    checked: Sample = {}
    for key, before in sample.items():
        value: Any = changed.get(key)
        if not isinstance(value, torch.Tensor) or value.shape != before.shape:
            got = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            raise ConfigError(
                f"transform {name}: {key} is {got} after it; expected a tensor {tuple(before.shape)}"
            )
        checked[key] = value.as_subclass(torch.Tensor).to(before.dtype).contiguous()  # MONAI's are a subclass
    return checked
