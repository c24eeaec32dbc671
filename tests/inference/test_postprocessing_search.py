"""Steps that improve the Dice of the validation cases are chosen and stored in the model."""

import math

import pytest
from conftest import ball_settings

from medseg.cli.main import run
from medseg.config.schema import load_config
from medseg.inference import postprocessing_search as tuning
from medseg.inference.model.model_file import load_model
from medseg.inference.model.predictor import Predictor
from medseg.inference.postprocessing import PostprocessConfig
from medseg.training.fit import fit


@pytest.mark.slow
def test_largest_is_chosen_if_there_are_false_components(balls, tmp_path, monkeypatch, capsys):
    config = load_config(ball_settings(balls), ["train.epochs=1", "train.iterations=2"])
    folder = fit(config, tmp_path / "run").run
    real = Predictor.predict

    def predict(self, source, **options):
        """Return the reference with two false voxels far from it."""
        prediction = real(self, source, **options)
        values = self.header.label_reader.read(source, prediction.scan).values.copy()
        values[0, 0, 0] = values[0, 0, 5] = 1
        return type(prediction)(values, None, prediction.scan)

    monkeypatch.setattr(Predictor, "predict", predict)
    digest = load_model(folder / "model.safetensors")[2]
    assert run(["tune", str(folder)]) == 0
    header, _, changed = load_model(folder / "model.safetensors")
    chosen = header.inference.postprocess
    assert chosen.largest == ("ball",) or chosen.smallest.get("ball")
    assert "core" not in chosen.names  # nothing to correct
    assert changed != digest
    assert "ball" in capsys.readouterr().out
    assert Predictor(folder, settings={"postprocess": {}}).header.inference.postprocess == PostprocessConfig()


def test_no_step_is_chosen_for_a_label_that_no_case_contains():
    # cases in which neither reference nor prediction contain a label have no Dice, as in evaluations
    assert tuning._best({"none": math.nan, "largest": math.nan}) == "none"
    assert tuning._best({"none": 0.0, "smallest 8": math.nan}) == "none"
    assert tuning._best({"none": 0.5, "largest": 0.5005, "fill": math.nan}) == "none"
    assert tuning._best({"none": 0.5, "largest": 0.6, "fill": 0.6}) == "largest"


def test_steps_by_name():
    steps = {step.name: step for step in tuning.candidate_steps(0.5)}
    assert list(steps)[:5] == ["none", "largest", "fill", "largest and fill", "smallest 4"]
    config = steps["largest and fill"].add_to(PostprocessConfig(largest=("a",)), "b")
    assert config == PostprocessConfig(largest=("a", "b"), fill=("b",))
    assert steps["smallest 4"].add_to(config, "c").smallest == {"c": 4.0}
