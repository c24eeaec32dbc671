import pytest
from conftest import ball_settings

from medseg.config.schema import load_config
from medseg.errors import ConfigError
from medseg.study.sweep import Domain
from medseg.study.sweep.search_space.space import SearchSpace, Setting
from medseg.study.sweep.search_space.space_check import build_space

SETTINGS = load_config(ball_settings("DATA")).model_dump(mode="json")


def space(**domains):
    """A validated space; ``__`` in a name is a dot."""
    given = {key.replace("__", "."): Domain.model_validate(value) for key, value in domains.items()}
    return build_space(given, SETTINGS)


def refused(**domains):
    with pytest.raises(ConfigError) as error:
        space(**domains)
    return str(error.value)


class Lowest:
    """Draws the lowest number and the last choice; keeps the arguments."""

    def __init__(self):
        self.asked = {}

    def suggest_float(self, name, low, high, *, step=None, log=False):
        self.asked[name] = ("float", low, high, step, log)
        return low

    def suggest_int(self, name, low, high, *, step=1, log=False):
        self.asked[name] = ("int", low, high, step, log)
        return low

    def suggest_categorical(self, name, choices):
        self.asked[name] = choices
        return choices[-1]


TVERSKY = {"name": "tversky"}


def test_types_follow_from_the_schema_and_conditions_from_earlier_draws():
    found = space(
        train__optimizer__lr={"low": 1e-4, "high": 1e-2, "log": True},
        train__batch_size={"low": 2, "high": 8, "step": 2},
        loss=[{"name": "dice"}, TVERSKY],
        loss__alpha={"low": 0.2, "high": 0.8, "when": {"loss": TVERSKY}},
        loss__smooth={"choices": [0.1, 1.0], "when": {"loss": {"name": "dice"}}},
    )
    trial = Lowest()
    changes = found.suggest(trial)
    assert trial.asked == {
        "train.optimizer.lr": ("float", 1e-4, 1e-2, None, True),
        "train.batch_size": ("int", 2, 8, 2, False),
        "loss": ("dice", "tversky"),
        "loss.alpha": ("float", 0.2, 0.8, None, False),
    }
    config = found.config(changes)
    assert (config.train.batch_size, config.loss.name, config.loss.alpha) == (2, "tversky", 0.2)
    assert found.values({"loss": "tversky", "loss.alpha": 0.2}) == {"loss": TVERSKY, "loss.alpha": 0.2}


def test_choices_may_have_names():
    found = space(
        loss={"choices": {"overlap": {"name": "dice"}, "weighted": TVERSKY}},
        loss__alpha={"low": 0.2, "high": 0.8, "when": {"loss": "weighted"}},
    )
    trial = Lowest()
    assert found.suggest(trial) == {"loss": TVERSKY, "loss.alpha": 0.2}
    assert trial.asked["loss"] == ("overlap", "weighted")
    assert found.settings[0].describe() == "overlap, weighted"


def test_drawn_numbers_are_tidy_and_stay_in_the_range():
    (setting,) = space(train__optimizer__lr={"low": 0.00012344, "high": 0.01}).settings
    assert setting.tidy(0.0031622776601683795) == 0.003162
    assert setting.tidy(0.00012344) == 0.00012344  # rounded it would be below the range


def test_every_wrong_setting_is_listed_in_one_error():
    message = refused(
        train__optimzer__lr={"low": 1e-4, "high": 1e-2},
        train__batch_size={"low": 1.5, "high": 3},
        train__epochs={"low": 0, "high": 4},
        train__amp={"low": 0, "high": 1},
        loss__alpha=[0.2, 0.3],
        model__norm=["batch", "bach"],
        train__ema=[0, 0.9, 0.9],
        seed=[0, 1],
        data__channels=[1, 3],
    )
    assert message.startswith("the search space: 9 settings are wrong:")
    for part in (
        "train.optimzer: unknown setting; did you mean train.optimizer?",
        "train.batch_size: low is 1.5, expected an integer",
        "train.epochs: expected at least 1 (got 0)",
        "train.amp: is not a number",
        "loss.alpha: unknown setting",
        "model.norm: ",
        "train.ema: the choice 0.9 appears twice",
        "seed: cannot be varied",
        "data.channels: cannot be varied: the trials are compared on the same cases",
    ):
        assert part in message


def test_a_combination_that_the_schema_refuses_is_named():
    message = refused(
        train__ema=[0, 0.9], train__swa=[None, {"start": 0.5}], train__epochs={"low": 2, "high": 4}
    )
    assert "train.ema=0.9, train.swa=(start=0.5), train.epochs=2: " in message
    assert "both averages" in message


def test_a_wrong_setting_does_not_hide_a_combination_of_others():
    message = refused(
        train__ema=[0, 0.9], train__swa=[None, {"start": 0.5}], train__epochs={"low": 0, "high": 4}
    )
    assert message.startswith(
        "the search space: 2 things are wrong:\n  train.epochs: expected at least 1 (got 0)"
    )
    assert "\n  train.ema=0.9, train.swa=(start=0.5): " in message
    assert message.endswith("give a setting the condition when.")


def test_conditions_must_name_choices_of_earlier_settings():
    assert "is not a setting of the space before" in refused(train__ema={"choices": [0], "when": {"loss": 1}})
    message = refused(
        loss=[{"name": "dice"}, TVERSKY],
        loss__alpha={"low": 0.2, "high": 0.8, "when": {"loss": {"name": "ce"}}},
    )
    assert "when names ce, which is no choice of loss" in message
    assert "add when" in refused(loss=[TVERSKY], loss__alpha={"low": 0.2, "high": 0.8})


def test_many_combinations_are_sampled():
    keys = ("train.epochs", "train.batch_size", "train.accumulate", "train.iterations", "train.validate_every")
    settings = (Setting(key, Domain(choices=(1, 2, 3, 4)), "choice") for key in keys)
    found = SearchSpace(SETTINGS, tuple(settings))
    corners = [tuple(changes.items()) for changes in found.corners(200)]
    assert len(corners) == len(set(corners)) == 200  # of 4⁵ = 1,024
    pairs = {(a, b) for changes in corners for a in changes for b in changes if a[0] < b[0]}
    assert len(pairs) == 10 * 16  # all of every two settings
    assert len(list(found.corners(1024))) == 1024


def test_the_baseline_is_the_first_trial_if_its_values_are_in_the_space():
    lr = SETTINGS["train"]["optimizer"]["lr"]
    assert space(
        train__optimizer__lr={"low": lr / 10, "high": lr * 10, "log": True}, model__channels=[[4, 8], [8, 16]]
    ).baseline() == {"train.optimizer.lr": lr, "model.channels": "[4, 8]"}
    assert space(train__optimizer__lr={"low": lr * 2, "high": lr * 4}).baseline() is None
    assert space(model__channels=[[8, 16], [8, 8]]).baseline() is None
    assert space(train__epochs={"low": 1, "high": 5, "step": 2}).baseline() is None  # epochs are 2
