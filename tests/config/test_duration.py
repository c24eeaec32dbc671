import pytest

from medseg.config.duration import parse_minutes
from medseg.config.schema import load_config, to_yaml
from medseg.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90s", 1.5),
        ("20min", 20),
        ("20 min", 20),
        ("2h", 120),
        ("1h30min", 90),
        ("1h 30", 90),
        ("0.5h", 30),
        ("20", 20),
        (2.5, 2.5),
        ("3M", 3),
    ],
)
def test_durations(text, minutes):
    assert parse_minutes(text) == minutes


@pytest.mark.parametrize("text", ["", "0", "-5", "20 parsecs", "min", "5min 5min", "1:30", "nan", 0, -1])
def test_other_text_is_refused(text):
    with pytest.raises(ValueError, match="such as 90s, 20min or 2h"):
        parse_minutes(text)


def test_a_setting_is_read_as_minutes_and_written_back(tmp_path):
    config = load_config({"train": {"budget": "90s"}})
    assert config.train.budget == 1.5
    (tmp_path / "c.yaml").write_text(to_yaml(config))
    assert load_config(tmp_path / "c.yaml") == config
    with pytest.raises(ConfigError, match=r"train\.budget: .*such as 90s"):
        load_config({}, ["train.budget=soon"])
    with pytest.raises(ConfigError, match=r"train\.budget"):
        load_config({}, ["train.budget=true"])
