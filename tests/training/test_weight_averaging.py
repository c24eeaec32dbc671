"""Stochastic weight averaging, and the statistics of batch norms of the average."""

import pytest
import torch
from conftest import ball_settings
from torch import nn

from medseg.config.schema import load_config
from medseg.errors import ConfigError
from medseg.inference.model.model_file import load_model
from medseg.training.fit import fit
from medseg.training.network_options import cumulative_statistics
from medseg.training.run_folder.checkpoint import load_checkpoint
from medseg.training.run_folder.log import read_log
from medseg.training.run_folder.state import TrainState
from medseg.training.tracking.callbacks import Callback


def test_the_average_is_the_mean_of_the_added_weights():
    network, averaged = (nn.Linear(1, 1, bias=False) for _ in range(2))
    state = TrainState(network, torch.optim.SGD(network.parameters()), torch.amp.GradScaler("cpu"), averaged)
    assert state.evaluated is network
    for value in (1.0, 2.0, 6.0):
        nn.init.constant_(network.weight, value)
        state.add_to_average()
    assert state.evaluated is averaged
    assert float(averaged.weight.detach()) == pytest.approx(3.0)


def test_statistics_are_the_means_over_batches():
    norm = nn.BatchNorm1d(1)
    norm.running_mean.fill_(100)
    network = nn.Sequential(norm, nn.Dropout()).eval()
    with cumulative_statistics(network, [norm]), torch.no_grad():
        for batch in ([0.0, 2.0], [5.0, 5.0], [10.0, 6.0]):
            network(torch.tensor(batch)[:, None])
    # means 1, 5, 8; unbiased variances 2, 0, 8
    assert float(norm.running_mean) == pytest.approx(14 / 3)
    assert float(norm.running_var) == pytest.approx(10 / 3)
    assert norm.momentum == 0.1
    assert not norm.training


class Weights(Callback):
    """Keeps the weights of the validated network after each epoch."""

    def __init__(self):
        self.epochs = []

    def on_epoch_end(self, info):
        self.epochs.append({key: value.clone() for key, value in info.network.state_dict().items()})


def swa_config(balls, **swa):
    settings = ball_settings(balls, epochs=4, iterations=2, swa={"start": 0.5, "norm_batches": 2, **swa})
    settings["model"]["norm"] = "batch"
    return load_config(settings)


@pytest.mark.slow
def test_a_training_saves_the_average_with_its_own_statistics(balls, tmp_path):
    kept, config = Weights(), swa_config(balls, rate=None)
    fit(config, tmp_path / "swa", callbacks=kept)
    plain, without = (
        Weights(),
        config.model_copy(update={"train": config.train.model_copy(update={"swa": None})}),
    )
    fit(without, tmp_path / "plain", callbacks=plain)
    # epochs end at positions 1/4, 2/4, 3/4 and 1: the average has the weights of epochs 2 to 4
    name = next(key for key in plain.epochs[0] if key.endswith("weight"))
    assert torch.equal(kept.epochs[0][name], plain.epochs[0][name])
    assert torch.equal(kept.epochs[1][name], plain.epochs[1][name])
    mean = (plain.epochs[1][name] + plain.epochs[2][name] + plain.epochs[3][name]) / 3
    assert torch.allclose(kept.epochs[3][name], mean, atol=1e-6)
    running = next(key for key in plain.epochs[0] if key.endswith("running_mean"))
    assert not torch.equal(kept.epochs[3][running], plain.epochs[3][running])
    last = load_checkpoint(tmp_path / "swa" / "checkpoints" / "last.pt")
    assert last["averages"] == 3
    best = load_checkpoint(tmp_path / "swa" / "checkpoints" / "best.pt")
    expected = best["averaged"] or best["network"]
    saved = load_model(tmp_path / "swa" / "model.safetensors")[1]
    assert all(torch.equal(saved[key], expected[key]) for key in saved)


@pytest.mark.slow
def test_an_extended_training_begins_its_average_again(balls, tmp_path):
    config = swa_config(balls, rate=None)
    fit(config, tmp_path / "run")  # the average begins at epoch 2 of 4
    longer = config.model_copy(update={"train": config.train.model_copy(update={"epochs": 12})})
    kept = Weights()
    fit(longer, tmp_path / "run", resume="auto", callbacks=kept)  # and now at epoch 6 of 12
    name = next(key for key in kept.epochs[0] if key.endswith("weight"))
    assert not torch.equal(kept.epochs[0][name], kept.epochs[1][name])  # epochs 5 and 6: no old average
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["averages"] == 7


def test_the_average_of_a_training_ended_by_a_callback_has_its_own_statistics(balls, tmp_path):
    class Stop(Callback):
        def on_epoch_end(self, info):
            if info.epoch == 3:
                info.stop()

    settings = ball_settings(balls, epochs=4, iterations=2, validate_every=4, swa={"start": 0.5})
    settings["model"]["norm"] = "batch"
    fit(load_config(settings), tmp_path / "run", callbacks=Stop())
    last = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")
    assert last["averages"] == 2
    running = next(key for key in last["network"] if key.endswith("running_mean"))
    assert not torch.equal(last["averaged"][running], last["network"][running])


def test_the_learning_rate_is_constant_while_weights_are_averaged(balls, tmp_path):
    class Rates(Callback):
        def __init__(self):
            self.rates = []

        def on_epoch_end(self, info):
            self.rates.append(read_log(info.run / "log.jsonl")[-1]["lr"])

    rates = Rates()
    fit(swa_config(balls, rate=0.25), tmp_path / "run", callbacks=rates)
    assert rates.rates[2:] == [pytest.approx(0.25 * 2e-3)] * 2
    assert rates.rates[0] > rates.rates[1] > 0.25 * 2e-3


def test_two_averages_at_once_are_refused():
    with pytest.raises(ConfigError, match="swa and ema are both averages"):
        load_config({"train": {"swa": {}, "ema": 0.9}})
