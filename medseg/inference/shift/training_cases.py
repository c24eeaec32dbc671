"""Measurement of the training cases for the fingerprint."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from medseg.data.curation.case_statistics import CaseStatistics
from medseg.data.labels.schema import LabelSchema
from medseg.data.loading.cache.cached_cases import CachedCase
from medseg.inference.shift.fingerprint import TrainingFingerprint, build_fingerprint, encoded_groups
from medseg.inference.shift.objects import ObjectSizes, measure_objects

_MOST_CASES = 200
"""Largest number of cases in a fingerprint."""
_MOST_VOXELS = 1 << 28
"""Largest number of voxels of the cases whose objects are measured."""


def measure_training_cases(
    statistics: Sequence[CaseStatistics], cached: Sequence[CachedCase], labels: LabelSchema
) -> TrainingFingerprint:
    """Describe the training cases: an evenly spaced sample of them, without paths and identities.

    Args:
        statistics: of the training cases.
        cached: the preprocessed training cases, in the same order.
        labels: the meaning of the labels.
    """
    chosen = _spread(len(statistics), _MOST_CASES)
    voxels = sum(math.prod(cached[i].shape) for i in chosen) / len(chosen)
    measured = {chosen[i] for i in _spread(len(chosen), max(1, int(_MOST_VOXELS / voxels)))}
    objects = [_measure(cached[i], labels) if i in measured else None for i in chosen]
    fingerprint = build_fingerprint([statistics[i] for i in chosen], objects)
    lowest = min(one.intensities[0] for one in statistics)
    return fingerprint.model_copy(update={"cases": len(statistics), "lowest": lowest})


def _spread(count: int, most: int) -> list[int]:
    """Return at most ``most`` evenly spaced indices below ``count``."""
    return [int(i) for i in np.linspace(0, count - 1, min(count, most)).round()]


def _measure(case: CachedCase, labels: LabelSchema) -> dict[str, ObjectSizes]:
    """Measure the objects of the labels that are annotated in a case."""
    groups = encoded_groups(labels)
    if case.annotated:
        annotated = [name for name, known in zip(labels.class_names, case.annotated, strict=True) if known]
        groups = {name: values for name, values in groups.items() if name in annotated}
    objects = case.objects
    return measure_objects(
        np.asarray(case.label), groups, case.spacing, np.asarray(objects) if objects.any() else None
    )
