"""What a predictor does when memory runs out: once more with fewer windows, then with sums elsewhere."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from medseg.errors import OutOfMemoryError
from medseg.system.allocator import is_out_of_memory

Result = TypeVar("Result")


@dataclass(frozen=True)
class Load:
    """What an attempt takes memory for.

    Attributes:
        batch_size: windows that go through the network at once.
        sums_on: where scores are summed.
        notes: what earlier attempts, which ran out of memory, lead to.
    """

    batch_size: int
    sums_on: torch.device
    notes: tuple[str, ...] = ()

    def lighter(self) -> Load | None:
        """A load that takes less memory; None if there is none.

        On a GPU batches are halved, then scores are summed in the computer's memory. On a CPU, where large
        batches gain little, windows go one by one.
        """
        on_cpu = self.sums_on.type == "cpu"
        if self.batch_size > 1 and not (on_cpu and self.notes):
            size = 1 if on_cpu else self.batch_size // 2
            return replace(self, batch_size=size)._noted(f"windows in batches of {size}")
        if not on_cpu:
            return replace(self, sums_on=torch.device("cpu"))._noted("scores summed on the CPU")
        return None

    def _noted(self, what: str) -> Load:
        return replace(self, notes=(*self.notes, f"out of memory: {what}"))


def retry_with_less(attempt: Callable[[Load], Result], load: Load, advice: str) -> Result:
    """What ``attempt`` returns for a load, or for the first lighter one that fits into memory.

    Raises: OutOfMemoryError with ``advice`` if none does.
    """
    while True:
        try:
            return attempt(load)
        except (RuntimeError, MemoryError, OSError) as error:
            if not is_out_of_memory(error):
                raise
            lighter = load.lighter()
            if lighter is None:
                raise OutOfMemoryError(f"out of memory. {advice}") from error
        load = lighter
        gc.collect()  # what the failed attempt left behind in cycles
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
