"""The examples of the how-to guides are valid."""

import re
from pathlib import Path

import pytest

from medseg import load_config
from medseg.study.sweep import read_sweep
from medseg.study.sweep.search_space.space_check import build_space

HOW_TO = Path(__file__).resolve().parents[2] / "docs" / "how-to"


@pytest.mark.parametrize("page", ["cascades", "choose-a-loss", "detectors", "imbalance", "tracking"])
def test_the_settings_of_a_guide_are_valid(page, tmp_path):
    blocks = re.findall(r"^```yaml\n(.*?)^```", (HOW_TO / f"{page}.md").read_text("utf-8"), flags=re.S | re.M)
    assert blocks
    for block in blocks:
        path = tmp_path / "config.yaml"
        path.write_text(block, encoding="utf-8")
        load_config(path)


def test_the_search_space_of_the_guide_is_valid(tmp_path):
    (block,) = re.findall(r"^```yaml\n(.*?)^```", (HOW_TO / "sweeps.md").read_text("utf-8"), flags=re.S | re.M)
    path = tmp_path / "space.yaml"
    path.write_text(block, encoding="utf-8")
    space = build_space(read_sweep(path).space, load_config({}).model_dump(mode="json"))
    assert [setting.kind for setting in space.settings] == ["float", "choice", "choice", "float", "int"]
