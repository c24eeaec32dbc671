import pytest
from conftest import ball_settings

from medseg.cli.main import run as command
from medseg.config.schema import load_config, to_yaml
from medseg.errors import TrainingError
from medseg.planning.measured.lr_finder import HIGHEST, LOWEST, find_learning_rate, suggest_rate


def test_the_suggestion_is_where_the_loss_falls_fastest_before_its_minimum():
    rates = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
    assert suggest_rate(rates, [1.0, 0.9, 0.5, 0.4, 0.45]) == 1e-3
    assert suggest_rate(rates, [1.0, 0.9, 0.8, 2.0, 0.9]) == 1e-4  # a fall after the minimum does not count
    with pytest.raises(TrainingError, match="never falls"):
        suggest_rate(rates, [1.0, 1.1, 1.2, 1.3, 1.4])


@pytest.mark.slow
def test_the_rate_grows_and_nothing_but_the_cache_is_written(balls, tmp_path):
    config = load_config(ball_settings(balls))
    test = find_learning_rate(config, tmp_path / "run", updates=40)
    assert test.rates[0] == LOWEST
    assert test.rates[-1] <= HIGHEST * 1.001
    assert test.rates[2] / test.rates[1] == pytest.approx(test.rates[1] / test.rates[0])
    assert LOWEST < test.suggestion < HIGHEST
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"cache"}


@pytest.mark.slow
def test_the_command_prints_a_suggestion(balls, tmp_path, capsys):
    (tmp_path / "c.yaml").write_text(to_yaml(load_config(ball_settings(balls))))
    assert command(["train", str(tmp_path / "c.yaml"), "--run", str(tmp_path / "run"), "--find-lr"]) == 0
    assert "suggestion: train.optimizer.lr=" in capsys.readouterr().out
