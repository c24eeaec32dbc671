import json
import os
import time

import pytest

from medseg.study.sweep import claims as module
from medseg.study.sweep.claims import Claims


@pytest.fixture
def claims(tmp_path):
    return Claims(tmp_path / "claims")


def dead(claim, process="abcdef.1.1"):
    """Make a claim look like that of another process."""
    claim.write_text(json.dumps({"process": process}), encoding="utf-8")


def test_one_process_at_a_time_holds_a_trial(claims):
    assert not claims.is_held()
    claim = claims.take()
    assert claims.is_held()
    assert claims.take() is None
    with claims.held(claim):
        assert claims.is_held()
    assert not claims.is_held()
    assert claims.deaths() == 0  # it was released
    assert claims.take().name == "002.json"


def test_a_claim_is_released_by_an_error(claims):
    with pytest.raises(RuntimeError), claims.held(claims.take()):
        raise RuntimeError
    assert (claims.is_held(), claims.deaths(), claims.count()) == (False, 0, 1)


def test_the_claim_of_a_process_that_ended_is_free(claims, monkeypatch):
    dead(claims.take())
    monkeypatch.setattr(module, "has_ended", lambda process: process == "abcdef.1.1")
    assert not claims.is_held()
    assert claims.deaths() == 1
    assert claims.take() is not None
    assert claims.is_held()


def test_only_processes_that_got_no_further_count_as_deaths(claims, monkeypatch):
    monkeypatch.setattr(module, "has_ended", lambda process: True)
    for progress in ("", "step 100", "step 200", "step 200"):
        claims.take(progress)
    assert claims.deaths("step 200") == 2  # the first two wrote checkpoints
    assert claims.deaths("step 300") == 0


def test_a_process_on_another_machine_lives_as_long_as_it_shows_it(claims, monkeypatch):
    claim = claims.take()
    dead(claim)
    monkeypatch.setattr(module, "has_ended", lambda process: None)
    assert claims.is_held()
    past = time.time() - module.SILENT_SECONDS - 60
    os.utime(claim, (past, past))
    assert not claims.is_held()
    monkeypatch.setattr(module, "_SIGN_SECONDS", 0.01)
    with claims.held(claim):
        while not claims.is_held():
            time.sleep(0.01)


def test_of_two_processes_that_claim_at_the_same_time_one_wins(claims, monkeypatch):
    first = Claims(claims.folder)

    def link(source, target, original=os.link):
        monkeypatch.setattr(os, "link", original)
        assert first.take() is not None
        original(source, target)

    monkeypatch.setattr(os, "link", link)
    assert claims.take() is None
    assert [path.name for path in claims.folder.iterdir()] == ["001.json"]
