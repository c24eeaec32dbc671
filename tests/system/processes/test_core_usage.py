"""Contention of the cores is detected and reported once."""

import os

from medseg.system.platform import CpuTimes, cpu_times
from medseg.system.processes.core_usage import CoreMonitor, describe_contention


def test_busy_cores_are_named_with_the_setting_that_helps(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    begin = CpuTimes(busy=0, own=0, idle=0)
    # 20 s on 2 cores: 22 s are this process's, 18 s of others, nothing idle
    message = describe_contention(begin, CpuTimes(busy=40, own=22, idle=0))
    assert message is not None
    assert "about 0.9 of the machine's 2 cores" in message
    assert "train.threads=1" in message
    assert describe_contention(begin, CpuTimes(busy=36, own=36, idle=4)) is None  # alone
    assert describe_contention(begin, CpuTimes(busy=30, own=10, idle=10)) is None  # room for both


def test_contention_is_reported_once(monkeypatch):
    readings = iter([CpuTimes(0, 0, 0), CpuTimes(40, 20, 0)])
    monkeypatch.setattr("medseg.system.processes.core_usage.cpu_times", lambda children: next(readings))
    watch = CoreMonitor(every=0)
    assert watch.check() is not None
    assert watch.check() is None


def test_reading_the_times_of_this_machine():
    times = cpu_times([os.getpid()])
    assert times is None or (times.busy > 0 and times.own > 0)
