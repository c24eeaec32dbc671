"""The time of a study is divided over its folds."""

import pytest

from medseg.config.schema import load_config
from medseg.data.cases import Case
from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.errors import ConfigError
from medseg.progress import QuietProgress
from medseg.study import cross_validate
from medseg.study.cross_validation.budget import (
    REPORT_SECONDS,
    SHORTEST_SECONDS,
    RemainingWork,
    ScoringClocks,
    check_budget,
    fold_seconds,
    warn_if_exceeded,
)
from medseg.study.cross_validation.folder import StudyFolder
from medseg.study.cross_validation.folds import Folds
from medseg.study.cross_validation.options import CrossValidationConfig
from medseg.study.cross_validation.settings import Study
from medseg.study.cross_validation.training import FoldTrainer
from medseg.study.executors import CellResult
from medseg.training.dataset.preparation import PreparedDataset
from medseg.training.pacing.budget_clock import TimeBudget


def test_what_remains_is_divided_over_what_remains():
    # 1000 s after the report, a tenth for predictions, three rounds of at most two folds
    assert fold_seconds(1000 + REPORT_SECONDS, RemainingWork(5, 2)) == pytest.approx(300)
    # measured: 200 s
    assert fold_seconds(1000 + REPORT_SECONDS, RemainingWork(4, 2, scoring=200)) == pytest.approx(400)


def test_the_shortest_time_of_a_fold_exceeds_the_budget_and_is_a_warning(caplog):
    assert fold_seconds(5, RemainingWork(4, 2)) == SHORTEST_SECONDS
    assert (
        "5 s of the budget are left to train and predict 4 folds: each gets 10 s, and the study" in caplog.text
    )


def test_a_budget_too_short_for_its_folds_is_refused(tmp_path):
    # 15 s for the report; a tenth of the rest for predictions; 10 s for each of 5 folds: 15 + 50 / 0.9 = 70.6
    check_budget(TimeBudget(71), folds=5, at_the_same_time=1)
    check_budget(TimeBudget(49), folds=5, at_the_same_time=2)  # 15 + 30 / 0.9
    config = CrossValidationConfig({}, folds=5, budget=1)
    with pytest.raises(
        ConfigError, match="the budget is 60 s, expected at least 71 s: 10 s for each of 5 folds"
    ) as e:
        cross_validate(config, tmp_path / "cv", progress=QuietProgress())
    assert "longer --budget" in e.value.hint
    assert not (tmp_path / "cv").exists()
    with pytest.raises(ConfigError, match="5 folds, 2 at a time"):
        check_budget(TimeBudget(48), folds=5, at_the_same_time=2)


def test_a_study_that_took_longer_than_its_budget_says_so_at_its_end(caplog):
    warn_if_exceeded(TimeBudget(3000, Clock(), earlier=3000.5))
    assert caplog.text == ""
    warn_if_exceeded(TimeBudget(3000, Clock(), earlier=3012))
    assert "the study took 12 s longer than its budget of 50 min" in caplog.text


def test_the_time_of_scores_is_estimated_once_both_steps_were_measured():
    clocks = ScoringClocks()
    clocks.prediction.add(30.0, 10)
    clocks.prediction.add(0.5, 0)  # cases that exist already say nothing
    assert clocks.estimate(5, 4) is None
    clocks.evaluation.add(8.0, 4)
    assert clocks.estimate(5, 4) == pytest.approx(5 * 3 + 4 * 2)


class Clock:
    """A clock that the test moves."""

    now = 0.0

    def __call__(self):
        return self.now


class Executor:
    """Trains a fold by writing its model file; every round takes 100 s more than its budget."""

    def __init__(self, clock):
        self.clock, self.rounds = clock, []

    def run(self, cells, report=None):
        minutes = [load_config(cell.folder / "config.yaml").train.budget for cell in cells]
        self.rounds.append([cell.name for cell in cells])
        self.clock.now += 60 * minutes[0] + 100
        for cell in cells:
            model = cell.folder / "run" / "model.safetensors"
            model.parent.mkdir()
            model.touch()
        return [CellResult(cell, 0) for cell in cells]


def folds_of(tmp_path, count):
    cases = [Case(f"c{i}", tmp_path / f"c{i}.nii.gz") for i in range(count)]
    labels = LabelSchema(names={"background": (0,), "organ": (1,)})
    dataset = PreparedDataset(cases, [], {}, labels, 1, PreprocessConfig())
    return Folds(dataset, {case.id: i for i, case in enumerate(cases)})


def test_later_rounds_get_what_earlier_ones_left(tmp_path):
    clock = Clock()
    budget = TimeBudget(3000, clock)
    request = CrossValidationConfig({}, folds=5, jobs=2, budget=50)
    study = Study(request, StudyFolder(tmp_path), load_config({"data": {"cache": str(tmp_path / "cache")}}))
    executor, clocks = Executor(clock), ScoringClocks()
    trainer = FoldTrainer(study, folds_of(tmp_path, 5), executor, budget, clocks, QuietProgress())
    for failed in trainer.rounds():
        assert failed == []
        if not clocks.prediction.cases:
            clocks.prediction.add(2.0, 1)
            clocks.evaluation.add(1.0, 1)
    assert executor.rounds == [["fold 0", "fold 1"], ["fold 2", "fold 3"], ["fold 4"]]
    minutes = [load_config(tmp_path / f"folds/fold_{k}/config.yaml").train.budget for k in range(5)]
    # 90% of 3000 - 15 s in three rounds; 3 predictions of 2 s, 5 evaluations of 1 s; then 1 and 5
    first = 0.9 * 2985 / 3
    second = (3000 - first - 100 - 15 - 11) / 2
    assert minutes[0] == minutes[1] == pytest.approx(first / 60, abs=1e-3)
    assert minutes[2] == minutes[3] == pytest.approx(second / 60, abs=1e-3)
    assert minutes[4] == pytest.approx((3000 - first - second - 200 - 15 - 7) / 60, abs=1e-3)


def test_a_training_that_has_begun_keeps_its_budget(tmp_path):
    clock = Clock()
    request = CrossValidationConfig({}, folds=2, budget=50)
    study = Study(request, StudyFolder(tmp_path), load_config({"data": {"cache": str(tmp_path / "cache")}}))
    begun = study.folder.fold(0)
    begun.run.root.mkdir(parents=True)
    for path in (begun.config, begun.run.config):
        path.write_text("train: {budget: 7}\n", encoding="utf-8")
    folds, executor = folds_of(tmp_path, 2), Executor(clock)
    executor.run = lambda cells, report: [CellResult(cell, 1) for cell in cells]
    trainer = FoldTrainer(study, folds, executor, TimeBudget(3000, clock), ScoringClocks(), QuietProgress())
    failed = next(trainer.rounds())
    assert [one.reason for one in failed] == ["exit code 1"]
    assert load_config(begun.config).train.budget == 7


@pytest.mark.parametrize(("used", "words"), [(0, ""), (2900, "fold 0 trains for 1.3 minutes only")])
def test_a_fold_with_little_time_is_a_warning(tmp_path, caplog, used, words):
    budget = TimeBudget(3000, Clock(), earlier=used)
    request = CrossValidationConfig({}, folds=2, jobs=2, budget=50)
    study = Study(request, StudyFolder(tmp_path), load_config({"data": {"cache": str(tmp_path / "cache")}}))
    executor = Executor(Clock())
    trainer = FoldTrainer(study, folds_of(tmp_path, 2), executor, budget, ScoringClocks(), QuietProgress())
    next(trainer.rounds())
    assert words in caplog.text
    assert bool(words) == ("not comparable" in caplog.text)
