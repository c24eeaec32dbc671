"""Measurement of the training cases for the fingerprint."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from medseg.data.curation.case_statistics import CaseStatistics
from medseg.data.labels.schema import LabelSchema
from medseg.data.loading.cache import CachedCase
from medseg.inference.shift.fingerprint import TrainingFingerprint, build_fingerprint, encoded_groups
from medseg.inference.shift.objects import ObjectSizes, measure_objects

_MOST_CASES = 200
_MOST_VOXELS = 1 << 28
"""Limits of the sample of cases whose objects are measured."""


def measure_training_cases(
    statistics: Sequence[CaseStatistics], cached: Sequence[CachedCase], labels: LabelSchema
) -> TrainingFingerprint:
    """Describe the training cases: their statistics, and the objects in an evenly spaced sample of them.

    Args:
        statistics: of the training cases.
        cached: the preprocessed training cases.
        labels: the meaning of the labels.
    """
    return build_fingerprint(statistics, [_measure(case, labels) for case in _sample(cached)])


def _sample(cached: Sequence[CachedCase]) -> list[CachedCase]:
    """Return evenly spaced cases, within the limits."""
    if not cached:
        return []
    mean = sum(math.prod(case.shape) for case in cached) / len(cached)
    count = min(len(cached), _MOST_CASES, max(1, int(_MOST_VOXELS / mean)))
    return [cached[int(i)] for i in np.linspace(0, len(cached) - 1, count).round()]


def _measure(case: CachedCase, labels: LabelSchema) -> dict[str, ObjectSizes]:
    """Measure the objects of the labels that are annotated in a case."""
    groups = encoded_groups(labels)
    if case.annotated:
        annotated = [name for name, known in zip(labels.class_names, case.annotated, strict=True) if known]
        groups = {name: values for name, values in groups.items() if name in annotated}
    return measure_objects(np.asarray(case.label), groups, case.spacing)
