"""A training loop that follows a time budget, and validates as many cases as its time allows."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

from medseg.progress import duration
from medseg.training.distributed.shared_pace import SharedPace
from medseg.training.loop import TrainingLoop
from medseg.training.pacing.budget_clock import TimeBudget
from medseg.training.pacing.end_within_budget import BudgetPace
from medseg.training.validation.schedule import ValidationBudget, select_validation_cases

_LOGGER = logging.getLogger(__name__)


def choose_validation_cases(loop: TrainingLoop, budget: ValidationBudget, earlier: list[str]) -> float:
    """Select the validation cases; return the share of the time of the updates that they take."""
    selection = select_validation_cases(loop.validator.cases, budget, earlier)
    loop.validator = replace(loop.validator, cases=selection.cases)
    loop.state.validated = [case.id for case in selection.cases]
    level = logging.INFO if len(selection.cases) < selection.available else logging.DEBUG
    _LOGGER.log(level, selection.describe())
    return selection.share


def follow_budget(loop: TrainingLoop, budget: TimeBudget, validation: ValidationBudget) -> None:
    """Let the time decide the number of updates."""
    options, state = loop.options, loop.state
    interval = options.validate_every * options.iterations

    def select_validation(updates: int) -> float:
        """Select fewer cases if there is less time than between two validations; return their duration."""
        beside_validation = updates / (1 + (options.validate_share or 0))
        fewer, earlier = max(min(beside_validation, interval), 1), state.validated
        work = replace(validation, updates=validation.updates * fewer / interval)
        share = choose_validation_cases(loop, work, [] if fewer < interval else earlier)
        full, current = loop.loader.patches.sampler.config.patch_size, loop.loader.patches.patch_size
        return fewer * share * math.prod(full) / math.prod(current)

    def select_cases(ids: list[str]) -> None:
        """Take over the validation cases that rank 0 selected."""
        kept = [case for case in loop.validator.cases if case.id in set(ids)]
        loop.validator = replace(loop.validator, cases=kept)

    if loop.ranks.is_main:
        budget.follow(loop.run_folder.clock, state.pace.used)
    loop.pace = BudgetPace(budget, options, state.pace, select_validation)
    if loop.ranks.size > 1:
        loop.pace = SharedPace(loop.pace, loop.ranks, state, select_cases)
    _LOGGER.info("time budget: %s, of which %s are used", duration(budget.seconds), duration(budget.used()))
    if budget.used() >= budget.seconds:
        _LOGGER.warning("the preparation took the whole time budget: the network will hardly be trained")
