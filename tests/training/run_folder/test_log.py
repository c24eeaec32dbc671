"""The log of a run."""

import logging

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from medseg.training.run_folder.log import RunLog, read_log

ENTRY = {"epoch": 1, "step": 4, "loss": 0.5, "val_dice:left lung": 0.75, "val_dice:tumor": None}


def test_a_line_and_its_pictures_are_in_tensorboard(tmp_path):
    log = RunLog(tmp_path / "log.jsonl", tmp_path / "tensorboard")
    log.append(ENTRY, {"val/a": np.full((4, 6, 3), 200, np.uint8)})
    log.close()
    assert read_log(tmp_path / "log.jsonl") == [ENTRY]
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    curves = {
        name: [(one.step, one.value) for one in events.Scalars(name)] for name in events.Tags()["scalars"]
    }
    assert curves == {"loss": [(4, 0.5)], "val/dice/left lung": [(4, 0.75)]}
    picture = events.Images("val/a")[0]
    assert (picture.step, picture.height, picture.width) == (4, 4, 6)


def test_an_error_of_tensorboard_is_one_warning(tmp_path, monkeypatch, caplog):
    log = RunLog(tmp_path / "log.jsonl", tmp_path / "tensorboard")

    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(log.writer, "add_scalar", fail)
    with caplog.at_level(logging.WARNING, logger="medseg"):
        log.append(ENTRY)
        log.append(ENTRY)
    log.close()
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["the log for TensorBoard is incomplete: No space left on device"]
    assert len(read_log(tmp_path / "log.jsonl")) == 2
