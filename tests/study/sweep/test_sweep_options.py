import pytest

from medseg.errors import ConfigError
from medseg.study.sweep import SweepConfig, read_sweep

LR = {"low": 1e-4, "high": 1e-2, "log": True}


def test_a_file_is_read(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(
        "space:\n"
        "  train.optimizer.lr: {low: 1e-4, high: 0.01, log: true}\n"
        "  loss: [{name: dice}, {name: ce}]\n"
        "objectives: [dice, seconds_per_case]\n",
        encoding="utf-8",
    )
    sweep = read_sweep(path)
    assert sweep.space["train.optimizer.lr"].low == 1e-4
    assert sweep.space["loss"].choices == ({"name": "dice"}, {"name": "ce"})
    assert (sweep.maximized, sweep.pruning) == ((True, False), "none")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "space: is missing"),
        ({"space": {}}, "space: expected 1 or more"),
        ({"space": {"train.ema": {"low": 1}}}, "space.train.ema: expected low and high, or choices"),
        ({"space": {"train.ema": {"low": 1, "high": 1}}}, "expected low below high"),
        ({"space": {"train.ema": {"low": 0, "high": 1, "log": True}}}, "begins above 0"),
        ({"space": {"train.ema": {**LR, "step": 0.1}}}, "no step"),
        ({"space": {"train.epochs": {"low": 1, "high": 6, "step": 2}}}, "a multiple of step"),
        ({"space": {"train.ema": {"low": 0, "high": 1, "choices": [0]}}}, "expected one of them"),
        ({"space": {"train.ema": {"lo": 1}}}, "did you mean space.train.ema.low"),
        ({"spaces": {"train.ema": LR}}, "did you mean space"),
        ({"space": {"train.ema": LR}, "objectives": ["fps"]}, "objectives: 'fps' is not known"),
        ({"space": {"train.ema": LR}, "objectives": ["fps", "dise"]}, "'fps', 'dise' are not known"),
        ({"space": {"train.ema": {"lo": 1}}, "objectives": ["fps"]}, r"(?s)train.ema.low.*'fps' is not known"),
        ({"space": {"train.ema": LR}, "objectives": ["dice", "dice"]}, "appears twice"),
        ({"space": {"train.ema": LR}, "objectives": ["hd95"], "pruner": "median"}, "pruner"),
    ],
)
def test_wrong_entries_are_named(content, message):
    with pytest.raises(ConfigError, match=message):
        read_sweep(content)


def test_a_file_that_is_no_mapping(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        read_sweep(tmp_path / "space.yaml")
    (tmp_path / "space.yaml").write_text("- 1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="expected a mapping"):
        read_sweep(tmp_path / "space.yaml")


def test_defaults_follow_from_the_objectives():
    def pruning(*objectives):
        return SweepConfig.model_validate({"space": {"train.ema": LR}, "objectives": objectives}).pruning

    assert [pruning("dice"), pruning("iou:lesion"), pruning("hd95")] == ["median", "median", "none"]
