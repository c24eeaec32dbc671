"""How this process was started: alone, or as one of several by ``torchrun``."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Launch:
    """The place of a process among those that were started together.

    Attributes:
        rank: number of the process, from 0.
        size: number of processes.
        local_rank: number of the process among those on its machine.
        local_size: number of processes on its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @classmethod
    def of_this_process(cls) -> Launch:
        """Read the environment variables that ``torchrun`` sets; one process without them."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        values = [os.environ.get(name, "") for name in names]
        if not all(value.isdigit() for value in values[:2]) or "MASTER_ADDR" not in os.environ:
            return cls()
        defaults = (0, 1, 0, 1)
        return cls(*(int(v) if v.isdigit() else default for v, default in zip(values, defaults, strict=True)))

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and messages."""
        return self.rank == 0
