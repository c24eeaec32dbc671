"""Whether other processes use the cores that a training computes on."""

from __future__ import annotations

import multiprocessing
import os
import time

from medseg.system.platform import CpuTimes, cpu_times

_LEAST_OTHERS, _MOST_IDLE = 0.5, 0.1
"""Cores are contended if others use at least this many, and at most this share of the machine is idle."""


def describe_contention(before: CpuTimes, after: CpuTimes) -> str | None:
    """Return a message if other processes used the cores of this one between two readings; else None."""
    busy, own, idle = after.busy - before.busy, after.own - before.own, after.idle - before.idle
    cores = os.cpu_count() or 1
    if busy + idle <= 0:
        return None
    others = max(busy - own, 0) / (busy + idle) * cores
    if others < _LEAST_OTHERS or idle / (busy + idle) > _MOST_IDLE:
        return None
    return (
        f"other processes use about {others:.1f} of the machine's {cores} cores and slow this training down; "
        f"train.threads={max(1, round(cores - others))} may be faster (results then differ in the last digits)"
    )


class CoreMonitor:
    """Reports once that other processes use the cores.

    Args:
        every: seconds between two readings.
    """

    def __init__(self, every: float = 20.0) -> None:
        self.every = every
        self.since, self.before = time.monotonic(), _read()

    def check(self) -> str | None:
        """Return a message after the first ``every`` seconds in which the cores were contended; else None."""
        if self.before is None or time.monotonic() - self.since < self.every:
            return None
        now = _read()
        message = None if now is None else describe_contention(self.before, now)
        self.since, self.before = time.monotonic(), None if message else now
        return message


def _read() -> CpuTimes | None:
    workers = [child.pid for child in multiprocessing.active_children()]
    return cpu_times([pid for pid in workers if pid is not None])
