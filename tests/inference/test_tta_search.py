"""Mirrors and scales are stored only if they improve the validation cases significantly."""

import math

import numpy as np
import pytest
from conftest import ball_settings

from medseg.cli.main import run as command
from medseg.config.schema import load_config
from medseg.inference import tta_search
from medseg.inference.model.model_file import load_model
from medseg.inference.sliding_window.tta import TrainedAugmentation
from medseg.inference.tta_search import TTAVariant, select_variant, sign_flip_p, tta_variants
from medseg.training.fit import fit


def test_variants_keep_to_the_training_and_the_cost():
    trained = TrainedAugmentation(mirror_axes=(0, 1), scale=(0.7, 1.1))
    expected = [((), ()), ((), (0.75,)), ((0,), ()), ((0,), (0.75,)), ((1,), ()), ((1,), (0.75,)), ((0, 1), ())]
    assert [(one.flips, one.scales) for one in tta_variants(trained, 2, 4.0)] == expected
    assert {one.scales for one in tta_variants(trained, 3, 8.0)} == {()}
    assert tta_variants(TrainedAugmentation(), 2, 1.0) == [TTAVariant()]
    assert TTAVariant((0, 1), (0.75,)).cost == pytest.approx(4 * (1 + 0.5625))


def test_the_p_value_counts_signs():
    # of 2^4 combinations of signs, only all + reaches the sum
    assert sign_flip_p([0.1, 0.1, 0.2, 0.3]) == 1 / 16
    # of the sums 1, -3, 3 and -1, two are at least 1
    assert sign_flip_p([-1.0, 2.0]) == 0.5
    assert sign_flip_p(np.zeros(20)) == 1
    assert sign_flip_p(np.full(20, 0.1)) == pytest.approx(1 / 10001)


VARIANTS = [TTAVariant(), TTAVariant((0,)), TTAVariant((0, 1)), TTAVariant((1,))]


def chosen(tables):
    return next(one.variant for one in select_variant(VARIANTS, tables, [1.0] * 4) if one.chosen)


def test_the_cheapest_of_the_best_is_chosen():
    base = np.linspace(0.6, 0.9, 10)
    assert chosen([base, base + 0.0195, base + 0.02, base + 0.01]) == VARIANTS[1]
    assert chosen([base, base + 0.01, base + 0.02, base + 0.01]) == VARIANTS[2]


def test_nothing_is_chosen_without_a_real_gain():
    base, rng = np.linspace(0.6, 0.9, 10), np.random.default_rng(0)
    assert chosen([base, base + 0.0005, base, base - 0.1]) == VARIANTS[0]  # too small
    assert chosen([base, base + rng.normal(0.005, 0.05, 10), base, base]) == VARIANTS[0]  # by chance
    assert chosen([base[:3], base[:3] + 0.05, base[:3], base[:3]]) == VARIANTS[0]  # too few cases
    undefined = np.full(10, math.nan)
    assert chosen([undefined] * 4) == VARIANTS[0]


def test_the_command_stores_the_choice_and_its_gain(balls, tmp_path, monkeypatch, capsys):
    settings = ball_settings(balls, epochs=1, iterations=1)
    settings["augment"] = {"flip": {"probability": 0.5, "axes": [0, 2]}}
    run = fit(load_config(settings), tmp_path / "run").run
    asked = []

    def invented(predictor, case, progress):
        flips = predictor.header.inference.flips
        asked.append(flips)
        progress.advance(case.id)
        return 0.8 if flips == (2,) else 0.5

    assert command(["tune", str(run), "--tta"]) == 0
    assert "no mirrors and scales stored" in capsys.readouterr().out  # there is one validation case
    monkeypatch.setattr(tta_search, "_mean_dice", invented)
    monkeypatch.setattr(tta_search, "LEVEL", 2.0)
    assert command(["tune", str(run), "--tta", "--tta-cost", "2"]) == 0
    assert set(asked) == {(), (0,), (2,)}
    header = load_model(run / "model.safetensors")[0]
    assert (header.inference.flips, header.inference.scales) == ((2,), ())
    assert header.training["tta"]["gain"] == pytest.approx(0.3)
    assert "stored in the model file: flips=[2] scales=[]" in capsys.readouterr().out
