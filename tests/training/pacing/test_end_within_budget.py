"""A training under a time budget, simulated with a clock that only moves as the updates take time."""

from dataclasses import dataclass, field, replace

import pytest

from medseg.errors import TrainingError
from medseg.training.options import TrainConfig
from medseg.training.pacing.budget_clock import TimeBudget
from medseg.training.pacing.end_within_budget import BudgetPace
from medseg.training.pacing.replayed_pace import ClockDecisions, ReplayedPace
from medseg.training.pacing.segments import PaceRecord, Segment


@dataclass
class Machine:
    """Durations of the parts of a training; ``slow`` changes them all from a point in time on."""

    update: float = 0.5
    validation: float = 10.0
    guessed_validation: float | None = None
    closing: float = 0.1
    slow: tuple[float, float] = (float("inf"), 1.0)
    now: float = 0.0
    updates: int = 0
    validations: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def spend(self, seconds: float) -> None:
        since, factor = self.slow
        self.now += seconds * (factor if self.now >= since else 1.0)

    def pace(self, budget: float, options: TrainConfig, record: PaceRecord) -> BudgetPace:
        guess = self.validation if self.guessed_validation is None else self.guessed_validation
        return BudgetPace(
            TimeBudget(budget, clock=lambda: self.now, began=0.0),
            options,
            record,
            lambda _: guess / self.update,
        )

    def train(
        self, pace: BudgetPace, step: int = 0, epochs: int = 0, until: int | None = None
    ) -> tuple[int, int]:
        """Do what the training loop does; return the steps and the closed epochs."""
        iterations = pace.options.iterations
        pace.begin(step)
        while True:
            finished = pace.is_finished(step)
            if step - epochs * iterations == iterations or (finished and step > epochs * iterations):
                epochs += 1
                if self.validation and pace.wants_validation(epochs, last=finished):
                    began = self.now
                    self.spend(self.validation)
                    self.validations.append(self.now - began)
                    pace.after_validation(step)
                self.spend(self.closing)
                pace.after_epoch()
                finished = pace.is_finished(step)
            if finished or step == until:
                return step, epochs
            self.rates.append(pace.learning_rate(step, []))
            self.spend(self.update)
            step += 1
            self.updates += 1
            pace.after_update(step)


def run(budget: float, machine: Machine, **options) -> PaceRecord:
    record = PaceRecord()
    machine.train(machine.pace(budget, TrainConfig(**options), record))
    machine.spend(2 * machine.closing + 0.4)  # the model file, the end of the process
    return record


MACHINES = {
    "steady": Machine(),
    "slow updates": Machine(update=4.0),
    "fast updates": Machine(update=0.01, validation=0.5, closing=0.02),
    "three times slower": Machine(slow=(300, 3.0)),
    "three times slower, late": Machine(slow=(550, 3.0)),
    "ten times slower": Machine(slow=(100, 10.0), validation=2.0),
    "three times faster": Machine(slow=(300, 1 / 3)),
    "faster at the end": Machine(slow=(570, 1 / 3)),
    "no validation": Machine(validation=0.0),
    "expensive validation": Machine(validation=50.0),
    "validation without time for it": Machine(validation=400.0),
    "validation cheaper than expected": Machine(validation=5.0, guessed_validation=20.0),
    "validation more expensive than expected": Machine(validation=25.0, guessed_validation=8.0),
    "started late": Machine(now=400.0),
    "slow disk": Machine(closing=3.0),
}


@pytest.mark.parametrize("name", MACHINES)
def test_a_training_ends_within_5_percent_of_its_budget(name):
    machine = replace(MACHINES[name], validations=[], rates=[])
    record = run(600, machine)
    assert 570 <= machine.now <= 630
    assert record.segments[-1].end > 0.97
    assert record.segments[-1].stop == machine.updates
    for before, after in zip(record.segments, record.segments[1:], strict=False):
        assert (before.stop, before.end) == (after.start, after.low)
        assert after.end > after.low


@pytest.mark.parametrize("name", ["steady", "ten times slower", "no validation"])
def test_a_training_is_replayed_exactly(name, tmp_path):
    machine = replace(MACHINES[name], validations=[], rates=[])
    record = run(600, machine)
    log = [{"epoch": 1, "val_cases": 3}, {"epoch": 2}]
    written = ClockDecisions.of(record, log, ["a", "b", "c"])
    written.write(tmp_path / "replay.json")
    decisions = ClockDecisions.read(tmp_path / "replay.json")
    assert decisions == written
    pace = ReplayedPace(TrainConfig(), decisions)
    assert [pace.learning_rate(step, []) for step in range(pace.total)] == machine.rates
    assert [pace.is_finished(step) for step in (machine.updates - 1, machine.updates)] == [False, True]
    assert [pace.wants_validation(epoch, last=False) for epoch in (1, 2)] == [True, False]


def test_only_a_training_with_a_time_budget_has_decisions(tmp_path):
    assert ClockDecisions.of(PaceRecord(), [], []) is None
    assert ClockDecisions.read(tmp_path / "replay.json") is None
    (tmp_path / "replay.json").write_text("{}", encoding="utf-8")
    with pytest.raises(TrainingError, match="cannot be read"):
        ClockDecisions.read(tmp_path / "replay.json")


@pytest.mark.parametrize("budget", [60, 180, 1200, 7200])
def test_other_budgets(budget):
    machine = Machine(update=0.4, validation=6.0)
    run(budget, machine)
    assert 0.95 * budget <= machine.now <= 1.05 * budget


def test_the_schedule_follows_the_time():
    """After 300 of 600 s at half a second per update, an update takes 1.5 s: position 1/2 stays at 300 s."""
    machine = Machine(slow=(300, 3.0), validation=0.0, closing=0.0)
    record = run(600, machine)
    # 600 updates in the first half, a third of them in the second
    assert machine.updates == pytest.approx(800, abs=15)
    segment = next(one for one in record.segments if one.stop >= 600)
    assert segment.position(600) == pytest.approx(0.5, abs=0.03)
    rates = machine.rates
    assert rates[-1] < 0.02 * max(rates)
    warm = rates.index(max(rates))
    assert rates[warm:] == sorted(rates[warm:], reverse=True)


@pytest.mark.parametrize("validation", [2.0, 20.0, 60.0])
def test_validations_keep_to_their_share(validation):
    machine = Machine(validation=validation)
    run(600, machine, validate_share=0.2)
    assert machine.validations
    assert sum(machine.validations) <= 0.2 * (machine.updates * machine.update) * 1.02


def test_an_unaffordable_validation_is_left_out():
    machine = Machine(validation=400.0)
    record = run(600, machine)
    assert machine.validations == []
    assert not record.final_validation


def test_without_a_share_every_epoch_is_validated():
    machine = Machine(validation=20.0)
    run(600, machine, validate_share=None)
    # an epoch of 100 updates takes 50 s + 20 s + 0.1 s: 8 of them, and the last weights
    assert len(machine.validations) == 9
    assert 570 <= machine.now <= 630


@pytest.mark.parametrize("used", [0.0, 9.9, 30.0])
def test_a_budget_too_small_for_anything_still_gives_an_update(used):
    machine = Machine(now=used, update=3.0, validation=5.0)
    run(10, machine)
    assert machine.updates >= 1
    if used > 9:
        assert machine.updates == 1
        assert machine.validations == []


@pytest.mark.parametrize("at", [3, 8, 250, 777])
def test_a_resumed_training_decides_as_an_uninterrupted_one(at):
    whole, options = Machine(update=0.5, validation=8.0, closing=0.25), TrainConfig()
    record = PaceRecord()
    whole.train(whole.pace(600, options, record))

    broken = Machine(update=0.5, validation=8.0, closing=0.25)
    saved = PaceRecord()
    step, epochs = broken.train(broken.pace(600, options, saved), until=at)
    restored = PaceRecord.restore(saved.to_checkpoint())
    broken.train(broken.pace(600, options, restored), step, epochs)
    assert restored.segments == record.segments
    assert broken.rates == whole.rates


def test_a_cut_segment_keeps_its_positions():
    segment = Segment(10, 20, 0.5, 0.75)
    cut = segment.cut(14)
    assert (cut.stop, cut.end) == (14, 0.6)
    assert [cut.position(step) for step in (10, 12)] == [0.5, 0.55]
    odd = Segment(0, 7, 0.1, 0.3)  # exactly: a replayed training has the same learning rates
    assert all(odd.cut(5).cut(3).position(step + 0.5) == odd.position(step + 0.5) for step in range(3))


def test_a_validation_is_abandoned_long_after_the_end():
    machine = Machine()
    pace = machine.pace(100, TrainConfig(), PaceRecord())
    machine.now = 102.0
    assert not pace.is_overdue()
    machine.now = 104.0
    assert pace.is_overdue()
