"""Which cases a validation goes through: as many as a share of the training's work allows.

The work is counted in voxels that go through the network, not in seconds: so a run validates the same cases on
every machine, however busy, and a run that is continued ends as one that was never stopped.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from medseg.config.schema import RunConfig
from medseg.data.loading.cache import CachedCase
from medseg.inference.sliding_window.window_plan import WindowPlan

UPDATE_COST = 3.0
"""Work of an update of the weights for each voxel of a patch; a prediction's is 1."""


@dataclass(frozen=True)
class Coverage:
    """The cases that are validated.

    Attributes:
        cases: in the order given.
        of: how many validation cases there are.
        share, whole: estimated share of the updates' time that a validation of these and of all cases takes.
    """

    cases: list[CachedCase]
    of: int
    share: float
    whole: float

    def describe(self) -> str:
        """One line for the log."""
        text = f"each validation goes through {len(self.cases)} of {self.of} cases"
        if len(self.cases) < self.of:
            text += (
                f" and takes about {self.share:.0%} of the time of the updates before it (all of them "
                f"would take {self.whole:.0%}); see train.validate_share and train.validate_cases"
            )
        return text


def choose_validation(cases: Sequence[CachedCase], config: RunConfig, earlier: Sequence[str] = ()) -> Coverage:
    """Choose the validation cases by ``train.validate_cases`` and ``train.validate_share``.

    Cases are taken in an order that depends on the seed and their ids alone; those that are needed to see each
    class once come first and are always taken, up to ``train.validate_cases``. ``earlier`` names the cases that
    a run that is continued validates: they stay, as long as all of them are there.
    """
    settings = config.train
    patches = settings.validate_every * settings.iterations * settings.accumulate * settings.batch_size
    updates = patches * math.prod(config.sampling.patch_size) * UPDATE_COST
    work = {case.id: prediction_work(case.shape, config) / updates for case in cases}
    chosen = set(earlier) if earlier and work.keys() >= set(earlier) else _affordable(cases, config, work)
    kept = [case for case in cases if case.id in chosen]
    return Coverage(kept, len(cases), sum(work[case.id] for case in kept), sum(work.values()))


def validated_of(prepared: Sequence[CachedCase], config: RunConfig, count: int) -> int:
    """How many of ``count`` validation cases are validated each time, if the others are like those prepared."""
    settings = config.train
    most = min(count, settings.validate_cases or count)
    if settings.validate_share is None or not prepared:
        return most
    whole = choose_validation(prepared, config).whole
    return min(most, max(1, int(settings.validate_share * len(prepared) / whole)))


def prediction_work(shape: Sequence[int], config: RunConfig) -> float:
    """Voxels of all windows over a preprocessed case (*S), mirrored and scaled ones included."""
    settings = config.inference
    size = config.roi_size if config.preprocess.slices is None else (1, *config.roi_size)
    windows = len(WindowPlan(tuple(shape), size, settings.overlap))
    copies = 2 ** len(settings.flips) * (1 + sum(scale**config.spatial_dims for scale in settings.scales))
    return windows * math.prod(size) * copies


def _affordable(cases: Sequence[CachedCase], config: RunConfig, work: dict[str, float]) -> set[str]:
    share, most = config.train.validate_share, config.train.validate_cases
    needed, others = _by_need(cases, config.seed)
    taken = [case.id for case in needed]
    spent = sum(work[i] for i in taken)
    for case in others:
        if share is not None and spent + work[case.id] > share:
            break
        taken.append(case.id)
        spent += work[case.id]
    return set(taken[:most])


def _by_need(cases: Sequence[CachedCase], seed: int) -> tuple[list[CachedCase], list[CachedCase]]:
    """The cases shuffled: those that show a class the ones before do not, and the others."""
    shuffled = sorted(cases, key=lambda case: hashlib.sha256(f"{seed} {case.id}".encode()).digest())
    seen: set[int] = set()
    needed: list[CachedCase] = []
    others: list[CachedCase] = []
    for case in shuffled:
        held = {code for code, count in enumerate(case.counts) if count and code}
        (needed if held - seen else others).append(case)
        seen |= held
    return needed or others[:1], others if needed else others[1:]
