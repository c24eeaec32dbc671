"""Options of the sliding window: where and in which batches it computes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True)
class Execution:
    """Where windows are computed, and how much memory that may take.

    Attributes:
        device: the network's device.
        batch_size: windows that go through the network at once.
        accumulate_on: the device on which logits are summed; None is ``device``.
        notes: what was reduced after earlier attempts ran out of memory.
    """

    device: torch.device
    batch_size: int = 1
    accumulate_on: torch.device | None = None
    notes: tuple[str, ...] = ()

    @property
    def accumulator_device(self) -> torch.device:
        """The device on which logits are summed."""
        return self.accumulate_on or self.device

    def reduced(self) -> Execution | None:
        """Return an execution that takes less memory; None if there is none.

        On a GPU the batch size is halved down to 1, then logits are summed in the computer's memory. On a CPU,
        where large batches gain little, the batch size becomes 1 at once.
        """
        on_cpu = self.accumulator_device.type == "cpu"
        if self.batch_size > 1 and not (on_cpu and self.notes):
            size = 1 if on_cpu else self.batch_size // 2
            return replace(self, batch_size=size)._noted(f"windows in batches of {size}")
        if not on_cpu:
            return replace(self, accumulate_on=torch.device("cpu"))._noted("logits summed on the CPU")
        return None

    def _noted(self, what: str) -> Execution:
        return replace(self, notes=(*self.notes, f"out of memory: {what}"))
