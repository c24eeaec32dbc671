"""Names of the runs of studies in tracking services."""

from medseg.config.schema import load_config
from medseg.study.cell_run import StudyRun
from medseg.study.cells import plan_cells, settings_digest
from medseg.study.cross_validation.folder import StudyFolder
from medseg.study.cross_validation.training import fold_config
from medseg.training.tracking.options import MlflowConfig, TrackingConfig

SETTINGS = {"train": {"tracking": {"mlflow": {"uri": "http://localhost:5000"}, "wandb": {"run_name": "ours"}}}}


def test_the_runs_of_a_study_have_different_names(tmp_path):
    root = tmp_path / "liver"
    fold = fold_config(load_config(SETTINGS), StudyFolder(root).fold(1), None).train.tracking
    assert (fold.mlflow.run_name, fold.wandb.run_name) == ("liver, fold 1", "ours, liver, fold 1")
    _, second = plan_cells(SETTINGS, {"train.ema": (0.9,)})
    run = StudyRun(second, 3, root)
    assert run.config.train.tracking.mlflow.run_name == "liver, train.ema=0.9, seed 3"
    assert settings_digest(run.config) == settings_digest(second.config)  # a name changes no result
    assert TrackingConfig().named("fold 0") == TrackingConfig()


def test_a_name_contains_no_path():
    tracking = TrackingConfig(mlflow=MlflowConfig(uri="http://localhost:5000"))
    assert "hospital" not in tracking.named("study, weights.file=/hospital/a.pt").mlflow.run_name
