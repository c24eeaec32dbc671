"""Selection of the validation cases: as many as a share of the work of the training allows.

The work is counted in voxels that pass through the network, not in seconds. A run therefore validates the same
cases on every machine, however busy, and a resumed run ends as an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from medseg.config.schema import RunConfig
from medseg.data.loading.cache.cached_cases import CachedCase
from medseg.inference.sliding_window.options import SlidingWindowOptions
from medseg.inference.sliding_window.window_plan import WindowPlan
from medseg.progress import plural
from medseg.prompts.options import PromptTask

PROMPT_WINDOWS = 25
"""Work of the clicks on a case, in windows: on a few objects, five each, one window at a time."""

UPDATE_COST = 3.0
"""Work of an update of the weights per voxel of a patch; a prediction has 1."""


@dataclass(frozen=True)
class ValidationBudget:
    """How much a validation may cost.

    Attributes:
        options: size of the sliding window, or how it follows that of the case; its overlap.
        slices: whether the windows are slices, one voxel along the first axis.
        copies: predictions of each window, with mirrored and scaled ones.
        updates: work of the updates between two validations, in voxels.
        share: largest share of that work; None for no limit.
        most: largest number of cases; None for no limit.
        seed: of the order of the cases.
        prompts: whether the windows follow prompts; their number then does not depend on the size of a case.
    """

    options: SlidingWindowOptions
    slices: bool
    copies: float
    updates: float
    share: float | None
    most: int | None
    seed: int
    prompts: bool = False

    @classmethod
    def of(cls, config: RunConfig) -> ValidationBudget:
        """Derive the budget from the settings of a run."""
        train, inference = config.train, config.inference
        patches = train.validate_every * train.iterations * train.accumulate * train.batch_size
        return cls(
            options=SlidingWindowOptions(
                config.roi_size, inference.overlap, max_roi_size=inference.max_roi_size
            ),
            slices=config.preprocess.slices is not None,
            copies=2 ** len(inference.flips) * (1 + sum(s**config.spatial_dims for s in inference.scales)),
            updates=patches * math.prod(config.sampling.patch_size) * UPDATE_COST,
            share=train.validate_share,
            most=train.validate_cases,
            seed=config.seed,
            prompts=isinstance(config.task, PromptTask),
        )

    def prediction_work(self, shape: Sequence[int]) -> float:
        """Return the voxels of all windows over a preprocessed case (*S), with mirrored and scaled ones."""
        size = self.options.window_size(shape[1:] if self.slices else shape)
        window = (1, *size) if self.slices else size
        if self.prompts:
            return math.prod(size) * PROMPT_WINDOWS
        return len(WindowPlan(tuple(shape), window, self.options.overlap)) * math.prod(window) * self.copies

    def work_share(self, case: CachedCase) -> float:
        """Return the work of validating a case as a share of that of the updates."""
        return self.prediction_work(case.shape) / self.updates


@dataclass(frozen=True)
class ValidationSelection:
    """The cases that are validated.

    Attributes:
        cases: in the given order.
        available: number of validation cases.
        share: estimated share of the time of the updates that their validation takes.
        full_share: the same for all cases.
    """

    cases: list[CachedCase]
    available: int
    share: float
    full_share: float

    def describe(self) -> str:
        """Return one line for the log."""
        text = f"each validation uses {len(self.cases)} of {plural(self.available, 'case')}"
        if len(self.cases) < self.available:
            text += (
                f" and takes about {self.share:.0%} of the time of the updates before it (all of them "
                f"would take {self.full_share:.0%}); see train.validate_share and train.validate_cases"
            )
        return text


def select_validation_cases(
    cases: Sequence[CachedCase], budget: ValidationBudget, earlier: Sequence[str] = ()
) -> ValidationSelection:
    """Select the cases to validate.

    The order of selection depends only on the seed and the ids. The cases that are needed to see each class
    once come first and are always selected, up to ``budget.most``.

    Args:
        cases: the validation cases.
        budget: what a validation may cost.
        earlier: ids of the cases that the resumed run validates; they are kept if all of them are available.
    """
    work = {case.id: budget.work_share(case) for case in cases}
    chosen = set(earlier) if earlier and work.keys() >= set(earlier) else _affordable(cases, budget, work)
    kept = [case for case in cases if case.id in chosen]
    return ValidationSelection(kept, len(cases), sum(work[case.id] for case in kept), sum(work.values()))


def estimate_validated(prepared: Sequence[CachedCase], budget: ValidationBudget, count: int) -> int:
    """Estimate how many of ``count`` cases are validated, if the others are like the prepared ones."""
    most = min(count, budget.most or count)
    if budget.share is None or not prepared:
        return most
    full_share = select_validation_cases(prepared, budget).full_share
    return min(most, max(1, int(budget.share * len(prepared) / full_share)))


def _affordable(cases: Sequence[CachedCase], budget: ValidationBudget, work: dict[str, float]) -> set[str]:
    needed, others = _split_by_need(cases, budget.seed)
    taken = [case.id for case in needed]
    spent = sum(work[i] for i in taken)
    for case in others:
        if budget.share is not None and spent + work[case.id] > budget.share:
            break
        taken.append(case.id)
        spent += work[case.id]
    return set(taken[: budget.most])


def _split_by_need(cases: Sequence[CachedCase], seed: int) -> tuple[list[CachedCase], list[CachedCase]]:
    """Shuffle the cases; return those with a class that the ones before lack, and the others."""
    shuffled = sorted(cases, key=lambda case: hashlib.sha256(f"{seed} {case.id}".encode()).digest())
    seen: set[int] = set()
    needed: list[CachedCase] = []
    others: list[CachedCase] = []
    for case in shuffled:
        held = {code for code, count in enumerate(case.counts) if count and code}
        (needed if held - seen else others).append(case)
        seen |= held
    return needed or others[:1], others if needed else others[1:]
