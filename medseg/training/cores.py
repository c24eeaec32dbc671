"""Whether other processes use the cores that a training computes on."""

from __future__ import annotations

import multiprocessing
import os
import time
from dataclasses import dataclass
from pathlib import Path

_STAT = Path("/proc/stat")
_LEAST_OTHERS, _MOST_IDLE = 0.5, 0.1
"""Cores used by others, and share of the machine that is idle, from and up to which cores are contended."""


@dataclass(frozen=True)
class CpuTimes:
    """Seconds of all cores together: spent by anyone, by this process and its workers, and idle."""

    busy: float
    own: float
    idle: float


def read_cpu_times() -> CpuTimes | None:
    """The processor time since the machine started; none where the system does not tell."""
    try:
        ticks = os.sysconf("SC_CLK_TCK")
        fields = _STAT.read_text(encoding="ascii").splitlines()[0].split()[1:9]
        user, nice, system, idle, waiting, *rest = (int(field) / ticks for field in fields)
        workers = [child.pid for child in multiprocessing.active_children()]
        own = time.process_time() + sum(_seconds_of(pid, ticks) for pid in workers if pid is not None)
    except (OSError, ValueError, AttributeError):
        return None
    return CpuTimes(user + nice + system + sum(rest), own, idle + waiting)


def describe_contention(before: CpuTimes, after: CpuTimes) -> str | None:
    """A message if other processes took this one's cores between two readings; else none."""
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


class CoreWatch:
    """Tells once that other processes use the cores."""

    def __init__(self, every: float = 20.0) -> None:
        self.every = every
        self.since, self.before = time.monotonic(), read_cpu_times()

    def check(self) -> str | None:
        """A message once ``every`` seconds have shown that cores are contended."""
        if self.before is None or time.monotonic() - self.since < self.every:
            return None
        now = read_cpu_times()
        message = None if now is None else describe_contention(self.before, now)
        self.since, self.before = time.monotonic(), None if message else now
        return message


def _seconds_of(pid: int, ticks: int) -> float:
    """Processor time of a process; 0 of one that ended."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(after_name[11]) + int(after_name[12])) / ticks
