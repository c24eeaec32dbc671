"""What commands that continue trainings say if the dataset changed."""

import pytest
from conftest import ball_settings

from medseg.config.schema import load_config
from medseg.errors import ChangedDataError
from medseg.progress import QuietProgress
from medseg.study import cell_job
from medseg.study.cell_run import CellOrder
from medseg.study.data_changes import advising
from medseg.study.sweep import trial_run


@pytest.fixture
def changed(monkeypatch):
    """Trainings find a changed dataset."""

    def fit(*arguments, **options):
        raise ChangedDataError("the dataset changed: case a", hint="Continue with --accept-new-cases.")

    for module in (cell_job, trial_run):
        monkeypatch.setattr(module, "fit", fit)


def test_other_errors_keep_their_hint():
    with pytest.raises(ValueError, match="other"), advising("Restore the dataset."):
        raise ValueError("other")


def test_a_run_of_a_study_is_trained_again_without_its_folder(changed, tmp_path):
    config = load_config(ball_settings("DATA"))
    order = CellOrder(config=config, task="train", digest="d", part="test", references=tmp_path / "references")
    with pytest.raises(ChangedDataError, match="the dataset changed: case a") as caught:
        cell_job.train_and_evaluate(tmp_path / "seed_0", order, QuietProgress())
    assert f"remove {tmp_path / 'seed_0'}" in caught.value.hint
    assert "accept" not in caught.value.hint


def test_a_trial_of_a_sweep_needs_a_new_study(changed, tmp_path):
    job = trial_run.TrialJob(load_config(ball_settings("DATA")), tmp_path / "0000", tmp_path, ("dice",))
    with pytest.raises(ChangedDataError) as caught:
        trial_run.run_trial(job, QuietProgress())
    assert caught.value.hint == "Restore the dataset, or start a new study in another --output folder."
