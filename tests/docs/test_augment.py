"""The guide to augmentation names every transform and preset, and its example runs."""

import re
from pathlib import Path
from typing import get_args

from ruamel.yaml import YAML

from medseg import load_config
from medseg.data.augmentation.options import AugmentConfig
from medseg.data.augmentation.presets import PresetName

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "augment.md").read_text("utf-8")


def test_the_tables_name_every_transform_and_preset():
    named = set(re.findall(r"`(\w+)[:`]", PAGE))
    assert set(AugmentConfig.model_fields) <= named
    assert set(get_args(PresetName)) <= named


def test_the_settings_are_valid():
    blocks = re.findall(r"^```yaml\n(.*?)^```", PAGE, flags=re.S | re.M)
    assert blocks
    for block in blocks:
        assert load_config(YAML(typ="safe").load(block)).augment != AugmentConfig()


def test_the_example_runs():
    example = re.search(r"^```python\n(.*?)^```", PAGE, flags=re.S | re.M).group(1)
    names: dict[str, object] = {}
    exec(example, names)
    assert names["image"].shape == names["label"].shape == (1, 32, 32, 32)
