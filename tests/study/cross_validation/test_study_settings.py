import os
import sys

import pytest
import torch

from medseg.config.schema import load_config
from medseg.errors import ConfigError
from medseg.planning.plan import PlanRequest
from medseg.study.cross_validation import settings
from medseg.study.cross_validation.folder import StudyFolder
from medseg.study.cross_validation.options import CrossValidationConfig


class Planned:
    """A plan of a network for the machine that is visible while it is made."""

    header, reasons = ("a plan",), {}

    def __init__(self, data, overrides, request):
        self.request, self.threads = request, torch.get_num_threads()
        self.config = load_config(
            {"data": {"path": str(data)}, "train": {"budget": request.minutes}}, overrides
        )


@pytest.fixture
def plans(monkeypatch):
    """Plans are invented; the list receives them."""
    made = []

    def plan(*given):
        made.append(Planned(*given))
        return made[-1]

    monkeypatch.setattr(settings, "plan_dataset", plan)
    return made


def test_a_folder_is_planned_once_for_the_share_of_a_fold(plans, tmp_path):
    (tmp_path / "data").mkdir()
    folder = StudyFolder(tmp_path / "cv")
    request = CrossValidationConfig(tmp_path / "data", ("seed=3",), folds=5, budget=100, jobs=2)
    study = settings.open_study(request, folder)
    assert plans[0].request == PlanRequest(minutes=pytest.approx(0.9 * 100 * 2 / 5))
    assert study.config.train.budget is None  # divided by the study
    assert study.config.train.checkpoint == "last"
    assert study.config.data.cache == folder.cache.absolute()
    again = settings.open_study(request, folder)
    assert again.config == study.config
    assert len(plans) == 1
    folder.cases.write_text("[]")  # the folds are assigned
    with pytest.raises(ConfigError, match="seed: 3 → 4"):
        settings.open_study(CrossValidationConfig(tmp_path / "data", ("seed=4",), budget=100, jobs=2), folder)


def test_a_study_whose_folds_could_not_be_assigned_does_not_block_the_corrected_command(plans, tmp_path):
    (tmp_path / "data").mkdir()
    folder = StudyFolder(tmp_path / "cv")
    settings.open_study(CrossValidationConfig(tmp_path / "data", ("seed=3",), folds=30), folder)
    study = settings.open_study(CrossValidationConfig(tmp_path / "data", ("seed=4",), folds=5), folder)
    assert study.config.seed == 4
    assert load_config(folder.settings).seed == 4
    assert '"folds": 5' in folder.record.read_text()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason=f"{sys.platform} has no affinity")
def test_plans_of_several_jobs_are_made_on_the_cores_of_one(monkeypatch):
    asked = []
    monkeypatch.setattr(settings, "usable_core_numbers", lambda: [0, 1, 2, 3])
    monkeypatch.setattr(settings, "run_on_cores", asked.append)
    threads = torch.get_num_threads()
    with settings._share_of_cores(2):
        assert torch.get_num_threads() == 2
    assert asked == [(0, 1), [0, 1, 2, 3]]
    assert torch.get_num_threads() == threads
    with settings._share_of_cores(1):
        assert len(asked) == 2


def test_the_budget_of_a_training_is_kept_without_one_of_the_study(tmp_path):
    source = {"train": {"budget": 7, "epochs": 3}}
    own = settings.open_study(CrossValidationConfig(source), StudyFolder(tmp_path / "own"))
    assert own.config.train.budget == 7
    whole = settings.open_study(CrossValidationConfig(source, budget=60), StudyFolder(tmp_path / "whole"))
    assert whole.config.train.budget is None


def test_prompts_are_refused(tmp_path):
    request = CrossValidationConfig({"task": {"name": "prompts"}})
    with pytest.raises(ConfigError, match="segments nothing without prompts"):
        settings.open_study(request, StudyFolder(tmp_path))
    assert not StudyFolder(tmp_path).record.exists()


def test_mirrors_are_not_chosen_for_objects(tmp_path):
    source = {"task": {"name": "instances"}}
    with pytest.raises(ConfigError, match="--tta: mirrors and scales are chosen by the Dice of classes"):
        settings.open_study(CrossValidationConfig(source, tta=True), StudyFolder(tmp_path))


def test_a_damaged_record_is_named(tmp_path):
    folder = StudyFolder(tmp_path)
    request = CrossValidationConfig({})
    settings.open_study(request, folder)
    folder.cases.write_text("[]", encoding="utf-8")
    folder.record.write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match="not the record of a cross-validation"):
        settings.open_study(request, folder)


def test_folds_with_and_without_a_budget_are_not_mixed(tmp_path):
    folder = StudyFolder(tmp_path)
    source = {"train": {"epochs": 3}}
    settings.open_study(CrossValidationConfig(source), folder)
    folder.cases.write_text("[]", encoding="utf-8")
    with pytest.raises(ConfigError, match="budget: none → 60 minutes"):
        settings.open_study(CrossValidationConfig(source, budget=60.0), folder)
    settings.open_study(CrossValidationConfig(source), folder)


def test_the_folder_of_a_run_is_not_overwritten(tmp_path):
    model = tmp_path / "model.safetensors"
    model.write_bytes(b"of a run")
    with pytest.raises(ConfigError, match="holds other files and no cross-validation"):
        settings.open_study(CrossValidationConfig({}), StudyFolder(tmp_path))
    model.unlink()
    (tmp_path / "clock.json").touch()  # of a study that was killed before its record
    settings.open_study(CrossValidationConfig({}), StudyFolder(tmp_path))
