"""Validation of networks that answer prompts: Dice after simulated clicks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from medseg.data.labels.schema import LabelSchema
from medseg.data.loading.cache.cached_cases import CachedCase
from medseg.data.loading.sampling.prompt_samples import components
from medseg.inference.backends import BackendSetup, TorchBackend
from medseg.inference.interactive.object_session import ObjectSession, Predict
from medseg.inference.interactive.windows import ScanWindows
from medseg.metrics.overlap import Counts, count_overlap, dice
from medseg.prompts.options import PromptTask
from medseg.prompts.users import user_by_name
from medseg.training.run_folder.validation_pictures import ValidationPictures
from medseg.training.validation.validator import ValidatedCase, Validator

CLICKS = 5
"""Clicks for each object."""
MOST_OBJECTS = 4
"""Objects of a case that are validated."""

Mask = NDArray[np.bool_]
Item = TypeVar("Item")


@dataclass(frozen=True)
class PromptValidator(Validator):
    """Validates a network that answers prompts: a simulated user clicks on a few objects of each case.

    Attributes:
        task: what is an object.
        instances: whether instances are the objects.
    """

    task: PromptTask = field(default_factory=PromptTask)
    instances: bool = False

    def validate(
        self, network: nn.Module, pictures: ValidationPictures | None = None
    ) -> Iterator[ValidatedCase]:
        """Yield the counts of each case after all clicks, and the Dice after each click."""
        watch = pictures if pictures is not None and pictures.is_due else None
        predict = TorchBackend(network.eval(), BackendSetup(self.device, self.dtype)).predict
        for case in self.cases:
            union, expected = np.zeros((2, *case.shape), bool)
            total, curves = Counts(0, 0, 0, 0), list[tuple[float, ...]]()
            for number, reference in enumerate(self.objects(case)):
                curve, mask = self._click(case, reference, number, predict)
                counts = count_overlap(reference, mask)
                total = Counts(
                    total.tp + counts.tp, total.fp + counts.fp, total.fn + counts.fn, total.tn + counts.tn
                )
                curves.append(curve)
                union, expected = union | mask, expected | reference
            if watch is not None and curves:
                classes = np.where(np.asarray(case.label) == 0, -1, expected).astype(np.int64)
                watch.add(case, union[None].astype(np.uint8), classes, [total])
            yield ValidatedCase([total if curves else None], clicks=tuple(curves))

    def objects(self, case: CachedCase) -> Iterator[Mask]:
        """Yield at most four objects (*S) of a case: classes, instances or components, the same every time."""
        rng = _generator(case.id, 0)
        if self.instances:
            label_map = np.asarray(case.objects)
            yield from (
                label_map == number for number in _some(np.unique(label_map[label_map > 0]).tolist(), rng)
            )
            return
        codes = np.asarray(case.label)
        tables = present_classes(case, self.labels)
        if self.task.objects != "components":
            yield from (np.isin(codes, table) for table in _some(tables, rng))
            return
        for table in _some(tables, rng):
            parts = components(np.isin(codes, table))
            yield parts == 1 + int(rng.integers(parts.max()))

    def _click(
        self, case: CachedCase, reference: Mask, number: int, predict: Predict
    ) -> tuple[tuple[float, ...], Mask]:
        """Click on an object; return the Dice after each click, and the mask after the last."""
        user, rng = user_by_name("clicks"), _generator(case.id, number + 1)
        ignored = np.asarray(case.label) == 0
        session = ObjectSession(self.windows(case), predict, np.zeros(case.shape, bool))
        curve: list[float] = []
        for _ in range(CLICKS):
            mask = session.mask & ~ignored
            prompt = user.next(reference, mask, rng) if curve else user.first(reference, rng)
            if prompt is not None:
                session.add(prompt)
            curve.append(dice(count_overlap(reference, session.mask & ~ignored)))
        return tuple(curve), session.mask & ~ignored

    def windows(self, case: CachedCase) -> ScanWindows:
        """Return the windows over a preprocessed case."""
        dims = len(case.shape)
        assert self.inference.roi_size is not None
        return ScanWindows(
            case.image, np.asarray, tuple(range(dims)), (False,) * dims, (1.0,) * dims, self.inference.roi_size
        )


def present_classes(case: CachedCase, labels: LabelSchema) -> list[NDArray[np.int64]]:
    """Return the codes of each class or region that a case contains."""
    if labels.regions:
        tables = [np.flatnonzero(row) + 1 for row in labels.region_table]
    else:
        tables = [np.array([index + 1]) for index in range(labels.first_evaluated, len(labels.names))]
    return [table for table in tables if any(case.counts[code] for code in table)]


def _some(items: Sequence[Item], rng: np.random.Generator) -> list[Item]:
    """Draw at most a few of the items, in their order."""
    if len(items) <= MOST_OBJECTS:
        return list(items)
    return [items[i] for i in np.sort(rng.choice(len(items), MOST_OBJECTS, replace=False))]


def _generator(case: str, number: int) -> np.random.Generator:
    """Return a generator for an object of a case, the same in every validation."""
    return np.random.default_rng([*hashlib.sha256(case.encode()).digest()[:8], number])
