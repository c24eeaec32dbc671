import json

import pytest

from medseg.system.platform import process_age
from medseg.training.pacing.budget_clock import TimeBudget


def test_time_is_counted_from_the_start_of_the_command():
    now = [100.0]
    budget = TimeBudget(60, clock=lambda: now[0], began=95.0)
    assert budget.used() == 5
    now[0] = 107.5
    assert budget.used() == 12.5


def test_a_command_began_with_its_process():
    assert 0 < process_age() < 3600
    budget = TimeBudget.of_command("2min")
    assert budget.seconds == 120
    assert budget.used() == pytest.approx(process_age(), abs=0.5)


def test_time_of_earlier_processes_counts_and_pauses_do_not(tmp_path):
    now = [0.0]
    first = TimeBudget(60, clock=lambda: now[0])
    first.follow(tmp_path / "clock.json")
    now[0] = 11.0
    first.note()
    assert json.loads((tmp_path / "clock.json").read_text()) == {"seconds_used": 11.0}
    now[0] = 500.0
    second = TimeBudget(60, clock=lambda: now[0])
    now[0] = 502.0
    second.follow(tmp_path / "clock.json")
    assert second.used() == 13.0
    third = TimeBudget(60, clock=lambda: now[0])
    third.follow(tmp_path / "missing.json", used=7.0)
    assert third.used() == 7.0


def test_a_damaged_record_counts_nothing(tmp_path):
    (tmp_path / "clock.json").write_text("{")
    budget = TimeBudget(60, clock=lambda: 3.0)
    budget.follow(tmp_path / "clock.json")
    assert budget.used() == 0.0


def test_the_budget_of_a_setting_is_in_minutes():
    budget = TimeBudget.of(1.5)
    assert (budget.seconds, budget.minutes) == (90, 1.5)
