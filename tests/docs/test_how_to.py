"""The examples of the how-to guides are valid."""

import re
from pathlib import Path

import pytest

from medseg import load_config

HOW_TO = Path(__file__).resolve().parents[2] / "docs" / "how-to"


@pytest.mark.parametrize("page", ["cascades", "choose-a-loss", "imbalance", "tracking"])
def test_the_settings_of_a_guide_are_valid(page, tmp_path):
    blocks = re.findall(r"^```yaml\n(.*?)^```", (HOW_TO / f"{page}.md").read_text("utf-8"), flags=re.S | re.M)
    assert blocks
    for block in blocks:
        path = tmp_path / "config.yaml"
        path.write_text(block, encoding="utf-8")
        load_config(path)
