"""Choose the candidate that a time and a memory allow, by measuring a few of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from medseg.planning.measured.step_timer import StepCost, Timer
from medseg.planning.network_candidates import Candidate

_MEASUREMENTS = 4
_WANTED_UPDATES, _WANTED_SECONDS = 2000, 1200.0
_LEAST_UPDATES = 1000
"""The validation Dice of small networks of pictures and volumes stops to rise after 400 to 2,000 updates."""
_TOLERANCE = 0.9
"""A candidate may reach this share of the wanted updates."""
_BYTES_PER_ELEMENT = 16.0
"""Bytes of memory per element of the feature maps of a batch on the CPU: values, their norms, gradients."""


@dataclass(frozen=True)
class Budget:
    """What an update may cost.

    Attributes:
        seconds: time of all updates.
        memory: bytes of memory.
        device: type of the device, ``cpu`` or ``cuda``.
        patience: factor on the number of updates that are wanted.
    """

    seconds: float
    memory: float
    device: str = "cpu"
    patience: float = 1.0

    @property
    def wanted_updates(self) -> int:
        """Updates that a large candidate has to leave time for: 2000 in 20 minutes; as the square root of time.

        With more time, half of it (on a logarithmic scale) goes into a larger network, half into more updates.
        """
        wanted = self.patience * _WANTED_UPDATES * math.sqrt(self.seconds / _WANTED_SECONDS)
        return max(_LEAST_UPDATES, round(wanted))

    def updates(self, seconds: float) -> int:
        """Return the number of updates that the time allows."""
        return int(self.seconds / seconds)

    def allows(self, candidate: Candidate, seconds: float, *, last_comfortable: bool) -> bool:
        """Whether a candidate leaves time for enough updates."""
        relaxed = last_comfortable or not candidate.comfortable
        wanted = _LEAST_UPDATES if relaxed else self.wanted_updates
        return self.updates(seconds) >= _TOLERANCE * wanted


@dataclass(frozen=True)
class Choice:
    """The chosen candidate.

    Attributes:
        candidate: network, patch and batch.
        cost: measured cost of an update.
        measured: number of measured candidates.
        rejected: a costlier candidate and its seconds per update, if there is one.
    """

    candidate: Candidate
    cost: StepCost
    measured: int
    rejected: tuple[Candidate, float] | None = None


@dataclass(frozen=True)
class Workload:
    """What the cost of a candidate depends on besides itself.

    Attributes:
        channels: of the images.
        classes: channels of the logits.
    """

    channels: int
    classes: int


def choose_candidate(ladder: Sequence[Candidate], workload: Workload, budget: Budget, timer: Timer) -> Choice:
    """Choose the most costly candidate that leaves time for enough updates.

    The time of a candidate that was not measured is predicted from the measured one that is closest to it, in
    proportion to the multiplications. The candidate that is predicted to be the first within the budget is
    measured, until a measured one is chosen or four were measured.

    Args:
        ladder: the candidates, from the most to the least costly.
        workload: what their cost depends on.
        budget: time and memory.
        timer: measures a candidate.

    Raises:
        MemoryError: if even the smallest candidate does not fit the memory.
    """
    search = _Search(ladder, workload, budget)
    index = search.first_to_measure()
    for _ in range(_MEASUREMENTS):
        search.record(index, timer.measure(ladder[index]))
        index = search.first_within(index)
        if index in search.costs:
            break
    return search.choice(index)


class _Search:
    """The measured candidates, and what follows from them."""

    def __init__(self, ladder: Sequence[Candidate], workload: Workload, budget: Budget) -> None:
        self.ladder = ladder
        self.budget = budget
        self.work = [one.work(workload.channels, workload.classes) for one in ladder]
        self.costs: dict[int, StepCost] = {}
        self.last_comfortable = max((i for i, one in enumerate(ladder) if one.comfortable), default=0)
        self.excluded: set[int] = set()
        if budget.device != "cuda":  # the memory of a CUDA device is measured
            sizes = [one.feature_elements(workload.classes) * _BYTES_PER_ELEMENT for one in ladder[:-1]]
            self.excluded = {i for i, size in enumerate(sizes) if size > budget.memory}

    def first_to_measure(self) -> int:
        """Return the last comfortable candidate, or the next one that fits the memory."""
        return next(i for i in range(self.last_comfortable, len(self.ladder)) if i not in self.excluded)

    def record(self, index: int, cost: StepCost | None) -> None:
        """Keep a measurement; None, or too much memory, excludes the candidate and all larger ones."""
        if cost is not None and (cost.memory or 0) <= self.budget.memory:
            self.costs[index] = cost
            return
        self.excluded |= set(range(index + 1))
        if len(self.excluded) == len(self.ladder):
            raise MemoryError("the smallest network does not fit the memory of the device")

    def predicted(self, index: int) -> float:
        """Return the seconds of an update, from the measured candidate with the most similar work."""
        nearest = min(self.costs, key=lambda i: abs(math.log(self.work[i] / self.work[index])))
        return self.costs[nearest].seconds * self.work[index] / self.work[nearest]

    def first_within(self, measured: int) -> int:
        """Return the most costly candidate that is predicted to leave time for enough updates."""
        if not self.costs:
            return measured + 1
        for i, one in enumerate(self.ladder):
            relaxed = i == self.last_comfortable
            if i not in self.excluded and self.budget.allows(one, self.predicted(i), last_comfortable=relaxed):
                return i
        return len(self.ladder) - 1

    def choice(self, index: int) -> Choice:
        """Return the choice of a candidate: the cheapest measured one that is at least as cheap."""
        if not self.costs:
            raise MemoryError("no measured network fits the memory of the device")
        if index not in self.costs:
            index = min((i for i in self.costs if i >= index), default=max(self.costs))
        rejected = (self.ladder[index - 1], self.predicted(index - 1)) if index else None
        return Choice(self.ladder[index], self.costs[index], len(self.costs), rejected)
