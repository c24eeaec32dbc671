"""A tracking service never stops a training, misses nothing, and continues its run."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from medseg.config.schema import load_config
from medseg.errors import ConfigError, TrainingStopped
from medseg.training.tracking import setup
from medseg.training.tracking.callbacks import EpochInfo, TrainStart
from medseg.training.tracking.options import MlflowConfig, TrackingConfig
from medseg.training.tracking.service import ServiceCallback

PICTURE = {"val/a": np.zeros((2, 2, 3), np.uint8)}


class Service:
    """Records calls, and fails while ``is_away``."""

    label, place = "Service", "here"

    def __init__(self):
        self.calls, self.is_away, self.runs = [], False, 0

    def open(self, record, run_id):
        self._fail()
        self.calls.append(("open", run_id))
        self.runs += run_id is None
        return run_id or f"run{self.runs}"

    def log(self, step, values, pictures):
        self._fail()
        self.calls.append((step, values["loss"], sorted(pictures)))

    def close(self, outcome, model):
        self._fail()
        self.calls.append((outcome, model and model.name))

    def _fail(self):
        if self.is_away:
            raise ConnectionError("server away")


def _start(*steps):
    history = [_entry(step) for step in steps]
    return TrainStart(load_config({}), Path("runs/a"), steps[-1] if steps else 0, ("organ",), {}, history)


def _entry(step):
    return {"epoch": step // 10, "step": step, "loss": step / 100}


def _epoch(step, pictures=PICTURE):
    entry = _entry(step)
    return EpochInfo(entry["epoch"], step, 0.0, {}, False, None, Path("a"), log=entry, pictures=pictures)


RESULT = SimpleNamespace(model=Path("a/model.safetensors"))


@pytest.fixture
def now():
    return [0.0]


@pytest.fixture
def follow(tmp_path, now):
    """A function that creates the callback of a service, as each start of a training does."""
    return lambda service: ServiceCallback(service, tmp_path / "tracking.json", "x", clock=lambda: now[0])


def test_a_training_is_sent_in_order(follow, tmp_path):
    service = Service()
    callback = follow(service)
    callback.on_train_start(_start())
    callback.on_epoch_end(_epoch(10))
    callback.on_epoch_end(_epoch(20, {}))
    callback.on_train_end(RESULT)
    expected = [("open", None), (10, 0.1, ["val/a"]), (20, 0.2, []), ("finished", "model.safetensors")]
    assert service.calls == expected
    recorded = json.loads((tmp_path / "tracking.json").read_text())
    assert recorded == {"x": {"place": "here", "run": "run1", "step": 20}}


def test_a_service_that_fails_warns_once_and_receives_the_missing_numbers_later(follow, now, caplog):
    service = Service()
    callback = follow(service)
    callback.on_train_start(_start())
    service.is_away = True
    with caplog.at_level(logging.WARNING, logger="medseg"):
        for step in (10, 20, 30):
            callback.on_epoch_end(_epoch(step))
            now[0] += 50  # a second attempt after 100 s: it fails as well
    assert [record.getMessage() for record in caplog.records] == [
        "Service failed: server away. The training is not affected"
    ]
    service.is_away = False
    callback.on_epoch_end(_epoch(40))  # 50 s after the failure: too early
    assert service.calls == [("open", None)]
    now[0] += 50
    callback.on_epoch_end(_epoch(50))
    # pictures from before the failure are not kept
    sent = [(10, 0.1, []), (20, 0.2, []), (30, 0.3, []), (40, 0.4, ["val/a"]), (50, 0.5, ["val/a"])]
    assert service.calls[1:] == sent


def test_a_service_that_is_away_at_the_start_is_opened_later(follow, now):
    service = Service()
    service.is_away = True
    callback = follow(service)
    callback.on_train_start(_start(10))
    callback.on_epoch_end(_epoch(20, {}))
    service.is_away = False
    callback.on_train_end(RESULT)
    sent = [("open", None), (10, 0.1, []), (20, 0.2, []), ("finished", "model.safetensors")]
    assert service.calls == sent


def test_a_resumed_run_continues_the_run_of_the_service(follow):
    first = Service()
    callback = follow(first)
    callback.on_train_start(_start())
    callback.on_epoch_end(_epoch(10))
    callback.on_epoch_end(_epoch(20))
    callback.on_train_error(TrainingStopped(2, "medseg train"))
    assert first.calls[-1] == ("stopped", None)
    second = Service()
    callback = follow(second)
    callback.on_train_start(_start(10))  # the state after step 20 was not saved: its epoch is repeated
    callback.on_epoch_end(_epoch(20))
    callback.on_epoch_end(_epoch(30))
    assert second.calls == [("open", "run1"), (30, 0.3, ["val/a"])]


def test_another_place_begins_a_new_run_with_the_whole_history(follow):
    callback = follow(Service())
    callback.on_train_start(_start())
    callback.on_epoch_end(_epoch(10))
    other = Service()
    other.place = "elsewhere"
    follow(other).on_train_start(_start(10))
    assert other.calls == [("open", None), (10, 0.1, [])]


def test_a_run_that_was_deleted_begins_again(follow):
    callback = follow(Service())
    callback.on_train_start(_start())
    callback.on_epoch_end(_epoch(10))
    service = Service()
    service.open = lambda record, run_id: "new"
    follow(service).on_train_start(_start(10))
    assert service.calls == [(10, 0.1, [])]


def test_an_error_of_the_training_ends_the_run(follow):
    service = Service()
    callback = follow(service)
    callback.on_train_error(ValueError("before the start"))
    assert service.calls == []
    callback.on_train_start(_start())
    callback.on_train_error(ValueError())
    assert service.calls[-1] == ("failed", None)


def test_a_file_that_cannot_be_written_is_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    callback = ServiceCallback(Service(), tmp_path / "file" / "tracking.json", "x")
    callback.on_train_start(_start())
    callback.on_train_end(RESULT)
    assert len(caplog.records) == 1


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    options = TrackingConfig(mlflow=MlflowConfig(database=tmp_path / "a.db"))
    setup.check_services(options)
    monkeypatch.setattr(setup, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="mlflow needs mlflow, sqlalchemy, alembic") as caught:
        setup.check_services(options)
    assert "pip install '.[mlflow]'" in caught.value.hint
    setup.check_services(TrackingConfig())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "set database to a file, or uri"),
        ({"database": "a.db", "uri": "http://localhost"}, "set database to a file, or uri"),
        ({"uri": "http://localhost", "artifacts": "a"}, "artifacts is for mlflow.database"),
    ],
)
def test_mlflow_needs_one_place(given, message):
    with pytest.raises(ConfigError, match=message):
        load_config({"train": {"tracking": {"mlflow": given}}})
