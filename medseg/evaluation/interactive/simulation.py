"""One object, prompted by one user."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from medseg.errors import DataError
from medseg.evaluation.interactive.cases import BoolArray
from medseg.evaluation.parallel_cases import describe_error
from medseg.prompts import Prompt, PromptSession
from medseg.prompts.users import User


class Prompter(Protocol):
    """What the next prompt is."""

    @property
    def ends(self) -> bool:
        """Whether the last score holds for later interactions, because there is nothing left to correct."""
        ...

    def prompts(self, reference: BoolArray, session: PromptSession) -> Iterator[Prompt]:
        """Yield prompts; the mask of the session changes in between."""
        ...


@dataclass(frozen=True)
class Simulated:
    """A simulated user with its generator."""

    user: User
    rng: np.random.Generator
    ends: bool = True

    def prompts(self, reference: BoolArray, session: PromptSession) -> Iterator[Prompt]:
        yield self.user.first(reference, self.rng)
        while True:
            prompt = self.user.next(reference, np.asarray(session.mask, bool), self.rng)
            if prompt is None:
                return
            yield prompt


@dataclass(frozen=True)
class Replayed:
    """Prompts that were recorded."""

    recorded: Sequence[Prompt]
    ends: bool = False

    def prompts(self, reference: BoolArray, session: PromptSession) -> Iterator[Prompt]:
        yield from self.recorded


@dataclass(eq=False)
class Trace:
    """What happened to one object.

    Attributes:
        dice: after each interaction.
        seconds: that the model took for each.
        prompts: the prompts.
        mask: (\\*S) bool, the last one.
        settled: whether the user stopped because nothing was left to correct.
        error: why the model failed; None if it did not. All scores are 0 then.
    """

    dice: list[float] = field(default_factory=list[float])
    seconds: list[float] = field(default_factory=list[float])
    prompts: list[Prompt] = field(default_factory=list[Prompt])
    mask: BoolArray | None = None
    settled: bool = False
    error: str | None = None

    def dice_after(self, count: int) -> float:
        """Return the Dice after a number of interactions; nan if there were fewer, and something was left."""
        if self.error is not None:
            return 0.0
        if count <= len(self.dice):
            return self.dice[count - 1]
        return self.dice[-1] if self.settled and self.dice else float("nan")

    def interactions_to(self, target: float) -> float:
        """Return after how many interactions a Dice was reached first; inf if it was not."""
        if self.error is not None:
            return float("inf")
        return next((float(i) for i, dice in enumerate(self.dice, start=1) if dice >= target), float("inf"))

    @property
    def final(self) -> float:
        """Dice after the last interaction."""
        return 0.0 if self.error is not None or not self.dice else self.dice[-1]


def prompt_object(session: PromptSession, reference: BoolArray, prompter: Prompter, most: int) -> Trace:
    """Let a user prompt until the mask equals the reference or ``most`` interactions are made.

    An error of the model ends the trace and is recorded in it; an error of the user is raised.

    Args:
        session: of the scan; it is restarted.
        reference: (\\*S) bool.
        prompter: the user.
        most: most interactions.
    """
    trace = Trace()
    try:
        session.restart()
    except Exception as error:  # the model's failure is its result
        return Trace(error=describe_error(error))
    for prompt in prompter.prompts(reference, session):
        begin = time.perf_counter()
        try:
            mask = _answer(session, prompt, reference.shape)
        except Exception as error:  # the model's failure is its result
            trace.error = describe_error(error)
            return trace
        trace.seconds.append(time.perf_counter() - begin)
        trace.prompts.append(prompt)
        trace.dice.append(dice(mask, reference))
        trace.mask = mask
        if len(trace.dice) == most:
            break
    else:
        trace.settled = prompter.ends
    return trace


def _answer(session: PromptSession, prompt: Prompt, shape: tuple[int, ...]) -> BoolArray:
    mask = np.asarray(session.add(prompt), bool)
    if mask.shape != shape:
        raise DataError(f"the model answered with a mask {mask.shape} for a scan {shape}")
    return mask


def dice(mask: BoolArray, reference: BoolArray) -> float:
    """Return the Dice of two masks, (\\*S) bool; 1 if both are empty."""
    sizes = np.count_nonzero(mask) + np.count_nonzero(reference)
    return 2 * np.count_nonzero(mask & reference) / sizes if sizes else 1.0
