"""The benchmark of clicks runs from end to end at toy size."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "clicks.py"


def test_clicks_on_a_small_volume(monkeypatch, capsys):
    main = runpy.run_path(str(SCRIPT))["main"]
    toy = {"RADII": np.array([9, 10, 8]), "ROUNDS": 1, "CLICKS": 2, "WINDOW": 8, "WIDTHS": (2, 4)}
    for name, value in toy.items():
        monkeypatch.setitem(main.__globals__, name, value)
    monkeypatch.setattr(sys, "argv", ["clicks.py", "--shape", "44", "48", "40", "--backend", "torch"])
    main()
    printed = capsys.readouterr().out
    assert "click 1: " in printed
    assert "6 windows, 1 clicks" in printed  # zooms of 1, 2 and 4, then three refinements
    assert "GB at most" in printed


@pytest.mark.parametrize("given", [["--model", "run"], ["--scan", "a.nii", "--label", "b.nii"]])
def test_a_model_needs_a_scan_and_a_label(monkeypatch, capsys, given):
    monkeypatch.setattr(sys, "argv", ["clicks.py", *given])
    with pytest.raises(SystemExit):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert "belong together" in capsys.readouterr().err
