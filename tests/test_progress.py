"""What a redirected operation prints, and when."""

import logging
import time

import pytest

from medseg.progress import ConsoleProgress, QuietProgress, _Stage, duration, stage


def test_a_redirected_operation_prints_its_state_regularly(capsys):
    """Nothing was printed for 400 s; users thought that the training was stuck and ended it."""
    began = time.monotonic()
    with ConsoleProgress(every=0.1) as progress:
        with stage(progress, 3, "preparing training cases"):
            progress.advance()
            time.sleep(0.25)
        with stage(progress, 100, "training", unit="updates"):
            progress.advance("loss 0.5000")
            time.sleep(0.02)
            progress.advance("loss 0.4000")
            time.sleep(0.25)
            with stage(progress, 7, "validating"):
                progress.advance()
                time.sleep(0.25)
    assert progress.describe_ended() == "2 of 100 updates"
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("preparing training cases: 1 of 3 cases, ")
    training = [line for line in lines if line.startswith("training: 2 of 100 updates, loss 0.4000, ")]
    assert training
    assert "s each, about" in training[0]
    assert training[0].endswith("left")
    assert any(line.startswith("validating: 1 of 7 cases") for line in lines)
    assert 3 <= len(lines) <= (time.monotonic() - began) / 0.1 + 1


def test_no_state_is_printed_while_messages_come_often(capsys):
    with ConsoleProgress(every=5) as progress, stage(progress, 10, "training"):
        for _ in range(3):
            progress.advance()
    assert capsys.readouterr().err == ""


def test_time_left_follows_from_the_time_since_the_start(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    resumed = _Stage(50, "training", "updates", completed=10, began=now[0])
    assert resumed.describe() == "training: 10 of 50 updates, after 0 s"
    now[0] += 2
    resumed.advance("loss 1.0000")
    # 39 updates of 2 s
    shown = "training: 11 of 50 updates, loss 1.0000, after 2 s, 2.00 s each, about 78 s left"
    assert resumed.describe() == shown
    assert [duration(s) for s in (7, 600, 7200)] == ["7 s", "10 min", "2.0 h"]


def test_messages_are_printed_among_the_lines_and_the_logger_is_restored(capsys):
    logger = logging.getLogger("medseg")
    before = logger.level
    with ConsoleProgress():
        logging.getLogger("medseg.training.loop").warning("the [cores] are busy")
        logging.getLogger("medseg.data").info("layout: folders")
        logging.getLogger("medseg.inference").error("scan_1: failed")
        logging.getLogger("medseg.data").debug("details")
    lines = ["warning: the [cores] are busy", "layout: folders", "error: scan_1: failed"]
    assert capsys.readouterr().err.splitlines() == lines
    assert logger.level == before


def test_a_stage_is_finished_after_an_error():
    class Recorded(QuietProgress):
        finished = 0

        def finish(self):
            self.finished += 1

    progress = Recorded()
    with pytest.raises(ValueError, match="bad"), stage(progress, 2, "measuring"):
        raise ValueError("bad")
    assert progress.finished == 1


def test_a_stage_that_changes_its_length_keeps_its_pace():
    with ConsoleProgress(every=60) as progress, stage(progress, 8, "training", unit="updates"):
        progress.advance()
        progress.resize(1300)
        progress.advance()
        current = progress._stages[-1]
        assert current.describe().startswith("training: 2 of 1300 updates, after 0 s, ")
        assert current.counted == 2


def test_one_item_is_singular():
    progress = ConsoleProgress(every=1000)
    with progress, stage(progress, 1, "validating"):
        progress.advance()
    assert progress.describe_ended() == "1 of 1 case"
