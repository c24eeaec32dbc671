"""What a redirected training prints, and when."""

import os
import time

from medseg.system.platform import CpuTimes, cpu_times
from medseg.training.core_usage import CoreWatch, describe_contention
from medseg.training.progress import LOGGER, ConsoleProgress, Pace, duration


def test_a_redirected_training_is_not_silent_within_an_epoch(capsys):
    """Nothing was printed for 400 s; a training that works was given up."""
    with ConsoleProgress(every=0.1) as progress:
        progress.prepared("a")
        time.sleep(0.25)
        progress.update(1, 100, 0.5)
        time.sleep(0.02)
        progress.update(2, 100, 0.4)
        time.sleep(0.25)
        progress.validating(2, 7)
        time.sleep(0.25)
    lines = capsys.readouterr().err.splitlines()
    assert "preparing: 1 cases" in lines
    training = [line for line in lines if line.startswith("step 2 of 100  loss 0.4000")]
    assert training
    assert "s an update" in training[0]
    assert "left" in training[0]
    assert "validating: case 2 of 7" in lines
    assert 5 <= len(lines) <= 8


def test_nothing_is_repeated_while_lines_come_often(capsys):
    with ConsoleProgress(every=5) as progress:
        for step in range(1, 4):
            progress.update(step, 10, 1.0)
    assert capsys.readouterr().err == ""


def test_time_left_follows_from_the_time_since_the_start(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    pace = Pace(10)
    assert pace.describe(10, 50, 1.0) == "step 10 of 50  loss 1.0000"
    now[0] += 2
    assert pace.describe(11, 50, 1.0) == "step 11 of 50  loss 1.0000  2.00 s an update  about 78 s left"
    assert [duration(s) for s in (7, 600, 7200)] == ["7 s", "10 min", "2.0 h"]


def test_messages_are_printed_among_the_lines(capsys):
    with ConsoleProgress():
        LOGGER.warning("the [cores] are busy")
    assert "warning: the [cores] are busy" in capsys.readouterr().err


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
    monkeypatch.setattr("medseg.training.core_usage.cpu_times", lambda children: next(readings))
    watch = CoreWatch(every=0)
    assert watch.check() is not None
    assert watch.check() is None


def test_reading_the_times_of_this_machine():
    times = cpu_times([os.getpid()])
    assert times is None or (times.busy > 0 and times.own > 0)
