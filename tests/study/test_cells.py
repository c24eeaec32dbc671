import pytest
from conftest import ball_settings

from medseg.errors import ConfigError
from medseg.study import plan_cells
from medseg.study.cells import describe_value, parse_grid

SETTINGS = ball_settings("DATA")


def names(grid, **keywords):
    return [cell.name for cell in plan_cells(SETTINGS, grid, **keywords)]


def test_a_grid_is_the_baseline_and_every_combination():
    # 0.1 and 1e-3 are the defaults: that combination is the baseline
    grid = {"model.dropout": (0.1, 0.2), "train.optimizer.lr": (1e-3, 1e-2)}
    assert names(grid, overrides=["train.optimizer.lr=1e-3"]) == [
        "baseline",
        "model.dropout=0.1, train.optimizer.lr=0.01",
        "model.dropout=0.2, train.optimizer.lr=0.001",
        "model.dropout=0.2, train.optimizer.lr=0.01",
    ]


def test_one_at_a_time_changes_one_setting_of_the_baseline():
    grid = {"train.ema": (0, 0.98), "model.dropout": (0.0, 0.2)}
    expected = ["baseline", "train.ema=0.98", "model.dropout=0.0", "model.dropout=0.2"]
    assert names(grid, design="one_at_a_time") == expected


def test_values_may_be_blocks_and_names():
    grid = parse_grid(["loss=[{name: dice}, {name: focal, gamma: 1.0}]", "augment=[none]"])
    cells = plan_cells(SETTINGS, grid, design="one_at_a_time")
    assert [cell.name for cell in cells] == ["baseline", "loss=dice", "loss=focal(gamma=1.0)", "augment=none"]
    assert [cell.config.loss.name for cell in cells] == ["sum", "dice", "focal", "sum"]
    assert cells[2].config.loss.gamma == 1.0


def test_text_is_kept_as_text_and_paths_are_resolved(tmp_path):
    grid = {"data.patient": ("(\\d+)",), "data.path": (str(tmp_path / "a b"),)}
    config = plan_cells(SETTINGS, grid)[1].config
    assert config.data.patient == "(\\d+)"
    assert config.data.path == tmp_path / "a b"


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("train.ema", "expected key=\\[value"),
        ("train.ema=0.9", "expected key=\\[value"),
        ("train.ema=[]", "expected key=\\[value"),
        ("train.ema=[0.9", "not valid YAML"),
    ],
)
def test_settings_without_a_list_are_refused(setting, words):
    with pytest.raises(ConfigError, match=words):
        parse_grid([setting])


def test_a_setting_given_twice_is_refused():
    with pytest.raises(ConfigError, match="appears twice"):
        parse_grid(["train.ema=[0]", "train.ema=[0.9]"])


def test_an_invalid_cell_is_named_before_anything_runs():
    with pytest.raises(ConfigError, match=r"cell train\.emma=0\.5: .*did you mean train\.ema"):
        plan_cells(SETTINGS, {"train.emma": (0.5,)})
    with pytest.raises(ConfigError, match=r"cell train\.ema=2: "):
        plan_cells(SETTINGS, {"train.ema": (0.5, 2)})


def test_the_digest_covers_what_influences_the_result():
    def digest(*overrides):
        return plan_cells(SETTINGS, {"train.ema": (0,)}, overrides)[0].digest

    assert digest("seed=3", "train.device=cpu", "data.workers=2") == digest()
    assert digest("train.epochs=3") != digest()
    assert digest("data.path=ELSEWHERE") != digest()


def test_folders_are_readable_and_differ():
    cells = plan_cells(SETTINGS, parse_grid(["loss=[{name: dice, smooth: 1}, {name: ce}]"]))
    assert cells[1].folder.startswith("loss=dice-smooth=1-")
    assert len({cell.folder for cell in cells}) == 3


def test_values_in_words():
    assert describe_value([{"loss": {"name": "dice"}}, {"weight": 0.5}]) == "[(loss=dice), (weight=0.5)]"
    assert [describe_value(value) for value in (True, None, 0.5)] == ["true", "null", "0.5"]
