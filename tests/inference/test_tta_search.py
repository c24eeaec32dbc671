"""Mirrors and scales are stored only if they improve the validation cases significantly."""

import math

import numpy as np
import pytest
from conftest import ball_settings

from medseg.cli.main import run as command
from medseg.config.schema import load_config
from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.normalization import Range
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.inference import tta_search
from medseg.inference.model.cascade import join_stages
from medseg.inference.model.model_file import LoadedModel, ModelHeader, load_model, save_model
from medseg.inference.options import InferenceConfig
from medseg.inference.sliding_window.tta import TrainedAugmentation
from medseg.inference.tta_search import TTAVariant, select_variant, sign_flip_p, tta_variants
from medseg.models import UNetConfig
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


@pytest.mark.slow
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
    monkeypatch.setattr(tta_search, "mean_dice_of_case", invented)
    monkeypatch.setattr(tta_search, "LEVEL", 2.0)
    assert command(["tune", str(run), "--tta", "--tta-cost", "2"]) == 0
    assert set(asked) == {(), (0,), (2,)}
    header = load_model(run / "model.safetensors")[0]
    assert (header.inference.flips, header.inference.scales) == ((2,), ())
    assert header.training["tta"]["gain"] == pytest.approx(0.3)
    assert "stored in the model file: flips=[2] scales=[]" in capsys.readouterr().out


def test_false_positives_in_empty_cases_count():
    undefined = np.full(20, math.nan)
    base = np.concatenate([np.full(8, 0.8), undefined])
    flips = np.concatenate([np.full(8, 0.81), np.zeros(20)])  # predicts something in each empty case
    scores = select_variant(VARIANTS, [base, flips, base + 0.01, base], [1.0] * 4)
    # an empty prediction is right there: (8 · 0.8 + 20) / 28 and 8 · 0.81 / 28
    assert scores[0].dice == pytest.approx(26.4 / 28)
    assert scores[1].gain == pytest.approx((8 * 0.01 - 20) / 28)
    assert not scores[1].chosen


def test_cases_that_are_empty_for_every_variant_are_left_out():
    base = np.array([0.8] * 8 + [math.nan] * 20)
    scores = select_variant(VARIANTS[:2], [base, base + 0.01], [1.0] * 2)
    assert scores[0].dice == pytest.approx(0.8)
    assert scores[1].chosen


@pytest.mark.parametrize("best", [(), (2,)])
def test_the_first_stage_of_a_cascade_gets_the_same_mirrors(tmp_path, monkeypatch, best):
    def header(*first_stages):
        return ModelHeader(
            spatial_dims=3,
            channels=1,
            labels=LabelSchema(names={"background": (0,), "ball": (1,)}),
            preprocess=PreprocessConfig(normalize=Range(low=0, high=1)),
            inference=InferenceConfig(roi_size=(8, 8, 8), flips=(0,)),
            model=UNetConfig(channels=(4, 8)),
            augmentation=TrainedAugmentation(mirror_axes=(0, 2)),
            first_stages=first_stages,
        )

    stage = LoadedModel(header(), header().model.build(header().task).state_dict(), "digest")
    both = header(stage.header)
    weights = join_stages(both.model.build(both.task).state_dict(), [stage])
    save_model(tmp_path / "model.safetensors", both, weights)
    monkeypatch.setattr(tta_search, "run_cases", lambda run, part: ["case"])
    monkeypatch.setattr(tta_search, "LEVEL", 3.0)
    measured = []

    def invented(predictor, case, progress):
        (stage,) = predictor.members[0].first_stages
        measured.append((predictor.header.inference.flips, stage.header.inference.flips))
        return 0.8 if measured[-1][0] == best else 0.5

    monkeypatch.setattr(tta_search, "mean_dice_of_case", invented)
    tta_search.tune_tta(tmp_path, device="cpu")
    stored = load_model(tmp_path / "model.safetensors")[0]
    assert (stored.inference.flips, stored.first_stages[0].inference.flips) == (best, best)
    assert (best, best) in measured
