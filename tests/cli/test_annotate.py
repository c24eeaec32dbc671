"""``medseg annotate``: options of the server, and the address that is opened."""

import click
import pytest
from click.testing import CliRunner

from medseg.cli.main import cli


@pytest.fixture
def started(monkeypatch):
    """The options of each server that is started, and the addresses that are opened."""
    options, opened = [], []

    def serve(given, *, started):
        options.append(given)
        started("http://127.0.0.1:8000/")

    monkeypatch.setattr("medseg.server.run.serve", serve)
    monkeypatch.setattr(click, "launch", opened.append)
    return options, opened


def test_the_page_is_opened_in_a_browser(started):
    options, opened = started
    result = CliRunner().invoke(cli, ["annotate", "data", "--model", "runs/a", "--labels", "liver, tumor"])
    assert result.exit_code == 0, result.output
    assert options[0].models == ("runs/a",)
    assert options[0].labels == ("liver", "tumor")
    assert options[0].is_local
    assert opened == ["http://127.0.0.1:8000/"]
    assert "http://127.0.0.1:8000/" in result.output


def test_a_token_is_in_the_opened_address_only(started):
    options, opened = started
    result = CliRunner().invoke(cli, ["annotate", "data", "--token", "secret & long"])
    assert opened == ["http://127.0.0.1:8000/?token=secret+%26+long"]
    assert "secret" not in result.output
    CliRunner().invoke(cli, ["annotate", "data", "--no-open"])
    assert len(options) == 2
    assert len(opened) == 1
