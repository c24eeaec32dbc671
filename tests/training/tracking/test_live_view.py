"""The state of a training on a terminal."""

import math
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from medseg.config.schema import load_config
from medseg.progress import QuietProgress
from medseg.training.tracking.callbacks import EpochInfo, TrainStart, UpdateInfo
from medseg.training.tracking.live_view import Curve, LiveView, Speed, live_view


def _draw(view, width=90):
    console = Console(file=StringIO(), width=width, height=40)
    console.print(view)
    return [line.strip("│ ").rstrip() for line in console.file.getvalue().splitlines()]


def _entry(epoch, **dice):
    scores = {f"val_dice:{name}": score for name, score in dice.items()}
    defined = [score for score in dice.values() if score is not None]
    return {
        "epoch": epoch,
        "step": 1000 * epoch,
        "loss": 1.0,
        "val_dice": sum(defined) / len(defined),
        **scores,
    }


def _view(labels, *entries, **settings):
    view = LiveView()
    config = load_config({"train": settings})
    view.on_train_start(TrainStart(config, Path("runs/liver"), 0, labels, {}, entries))
    return view


def test_loss_scores_and_speed_are_shown():
    view = _view(("organ", "[lesion]"), _entry(1, organ=0.9, **{"[lesion]": 0.5}))
    for step in range(3):
        view.on_update(UpdateInfo(step, 0.5, 1e-3, seconds=2.0, waited=0.5, patches=4))
    entry = _entry(2, organ=0.6, **{"[lesion]": None})
    view.on_epoch_end(EpochInfo(2, 2000, 0.0, {}, False, None, Path(), log=entry))
    lines = _draw(view)
    assert "liver, epoch 3" in lines[0]
    assert lines[1].startswith("loss 0.5000  █")
    assert lines[2] == "lr 0.001   2.0 patches/s   device idle 25%"
    assert [line.split()[:3] for line in lines[4:7]] == [
        ["mean", "0.6000", "0.7000"],
        ["organ", "0.6000", "0.9000"],
        ["[lesion]", "–", "0.5000"],
    ]
    assert lines[7] == "validated after update 2,000; best after update 1,000"


def test_the_monitored_score_selects_the_best():
    entries = [_entry(1, organ=0.9) | {"val_iou": 0.3}, _entry(2, organ=0.8) | {"val_iou": 0.4}]
    lines = _draw(_view(("organ",), *entries, monitor="iou"))
    assert lines[2].split()[:3] == ["mean", "0.8000", "0.8000"]
    assert lines[4] == "validated after update 2,000; best by iou after update 2,000"


def test_of_many_classes_those_with_the_lowest_scores_are_shown():
    scores = {f"organ{i}": 0.9 - 0.01 * i for i in range(20)}
    lines = _draw(_view(tuple(scores), _entry(1, **scores)))
    shown = [line.split()[0] for line in lines[2:11]]
    assert shown == ["mean", *(f"organ{i}" for i in range(12, 20))]
    assert lines[11] == "12 classes with higher scores are not shown"


def test_a_new_training_and_a_loss_that_is_not_finite_can_be_drawn():
    assert "not validated yet" in _draw(_view(("organ",)))[1]
    view = _view(("organ",))
    view.on_update(UpdateInfo(1, math.nan, 1e-3, 0.0, 0.0, 2))
    view._refresh()
    assert _draw(view, width=20)[1].startswith("loss nan")


def test_a_curve_has_few_points_and_keeps_its_course():
    curve = Curve(most=8)
    for value in range(1000):
        curve.add(value)
    assert 4 <= len(curve.points) <= 8
    assert curve.points == sorted(curve.points)
    # blocks of 128 values: 0 to 127 have the mean 63.5
    assert curve.points[0] == pytest.approx(63.5)


def test_the_speed_is_that_of_the_latest_updates():
    speed = Speed(window=10.0)
    for _ in range(100):
        speed.add(seconds=1.0, waited=1.0, patches=1)
    for _ in range(10):
        speed.add(seconds=1.0, waited=0.0, patches=3)
    assert speed.patches_per_second == pytest.approx(3.0)
    assert speed.idle_share == pytest.approx(0.0)


def test_without_a_terminal_there_is_no_view():
    with live_view(QuietProgress()) as callbacks:
        assert callbacks == ()
