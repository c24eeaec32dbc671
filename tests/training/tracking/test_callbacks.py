"""The protocol of callbacks."""

import logging

import pytest

from medseg.training.tracking.callbacks import Callback, notify, report_errors


class Recorder(Callback):
    def __init__(self):
        self.errors = []

    def on_train_error(self, error):
        self.errors.append(type(error).__name__)


class Broken:
    """A callback with a single method, which fails."""

    def on_train_error(self, error):
        raise OSError("disk full")


def test_an_error_reaches_every_callback_and_is_raised(caplog):
    recorder = Recorder()
    with (
        caplog.at_level(logging.WARNING, logger="medseg"),
        pytest.raises(KeyboardInterrupt),
        report_errors([Broken(), recorder]),
    ):
        raise KeyboardInterrupt
    assert recorder.errors == ["KeyboardInterrupt"]
    assert [record.getMessage() for record in caplog.records] == ["Broken.on_train_error failed: disk full"]


def test_without_an_error_nothing_is_reported():
    recorder = Recorder()
    with report_errors([recorder]):
        notify([recorder, Broken()], "on_update", None)  # a missing method is skipped
    assert recorder.errors == []
