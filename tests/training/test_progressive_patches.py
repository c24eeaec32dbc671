"""Patches that grow during a training."""

import pytest
import torch
from conftest import ball_settings

from medseg.config.schema import load_config
from medseg.data.augmentation.options import AugmentConfig, FinalConfig, IntensityConfig, NoiseConfig
from medseg.inference.model.model_file import load_model
from medseg.progress import QuietProgress
from medseg.training.fit import fit
from medseg.training.options import TrainConfig
from medseg.training.pacing.budget_clock import TimeBudget
from medseg.training.pacing.end_within_budget import BudgetPace
from medseg.training.pacing.segments import PaceRecord, Segment


class StopError(Exception):
    pass


class Stopper(QuietProgress):
    """Ends the training after an update, as a crash would."""

    def __init__(self, at):
        self.left = at

    def advance(self, detail=""):
        if detail.startswith("loss"):
            self.left -= 1
            if not self.left:
                raise StopError


@pytest.fixture
def config(balls):
    settings = ball_settings(balls, epochs=4, iterations=2, validate_every=4, save_every_steps=1)
    settings["sampling"]["progressive"] = {"start": 0.5, "until": 0.75, "steps": 2}
    settings["sampling"]["patch_size"] = [16, 16, 12]
    settings["model"] |= {"channels": [4, 4], "norm": "batch"}
    settings["train"]["swa"] = {"start": 0.25, "norm_batches": 1}
    return load_config(settings)


def test_the_size_changes_between_epochs(config, tmp_path):
    sizes = []
    fit(
        config, tmp_path / "run", transforms=lambda sample: sizes.append(tuple(sample["image"].shape)) or sample
    )
    # half the size until 0.75 of 4 epochs; 16 has no smaller multiple of 16, 12 is a multiple of 4
    assert sizes[:16] == [(1, 16, 16, 8)] * 12 + [(1, 16, 16, 12)] * 4
    assert len(sizes) == 18  # one more batch for the statistics of the average


def test_the_last_part_leaves_out_transforms(config, tmp_path):
    shift = IntensityConfig(probability=1, low=100, high=100)
    augment = AugmentConfig(shift=shift, final=FinalConfig(start=0.5, without=("shift",)))
    shifted = []
    fit(
        config.model_copy(update={"augment": augment}),
        tmp_path / "run",
        transforms=lambda sample: shifted.append(bool(sample["image"].mean() > 50)) or sample,
    )
    assert shifted[:16] == [True] * 8 + [False] * 8  # 4 epochs


@pytest.mark.slow
@pytest.mark.parametrize("at", [3, 7])
def test_a_resumed_run_has_the_same_sizes_and_average(config, tmp_path, at):
    augment = AugmentConfig(noise=NoiseConfig(probability=1), final=FinalConfig(start=0.5, without=("noise",)))
    config = config.model_copy(update={"augment": augment})
    fit(config, tmp_path / "whole")
    with pytest.raises(StopError):
        fit(config, tmp_path / "broken", progress=Stopper(at))
    fit(config, tmp_path / "broken", resume="auto")
    one, two = (load_model(tmp_path / name / "model.safetensors")[1] for name in ("whole", "broken"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_timed_training_expects_slower_updates():
    record = PaceRecord([Segment(0, 10, 0.0, 0.1), Segment(10, 30, 0.1, 0.3)], update_seconds=1.0)
    record.validation_updates = 8.0
    pace = BudgetPace(TimeBudget(100, clock=lambda: 30.0, began=0.0), TrainConfig(iterations=10), record, float)
    assert [round(pace.position(step), 6) for step in (0, 5, 20, 30, 40)] == [0, 0.05, 0.2, 0.3, 0.3]
    expected = 30 + (100 - 30) / 4
    pace.after_growth(30, 4.0)
    assert record.update_seconds == 4.0
    assert record.validation_updates == 2.0
    assert record.expected_updates < expected
    assert record.segments[-1].start == 30


@pytest.mark.parametrize("now", [99.0, 120.0])
def test_a_timed_training_does_not_end_where_patches_grow(now):
    # the end of an epoch follows, with the validation and the report of the last weights
    record = PaceRecord([Segment(0, 30, 0.0, 0.3), Segment(30, 40, 0.3, 0.4)], update_seconds=1.0)
    pace = BudgetPace(TimeBudget(100, clock=lambda: now, began=0.0), TrainConfig(iterations=10), record, float)
    pace.after_growth(40, 20.0)
    assert not pace.is_finished(40)
    assert record.segments[-1] == Segment(40, 41, 0.4, 1.0)
    pace.after_update(41)
    assert pace.is_finished(41)
