"""How many cases a validation goes through."""

from pathlib import Path

import pytest

from medseg.config.schema import load_config
from medseg.data.loading.cache.cached_cases import CachedCase
from medseg.training.validation.schedule import (
    ValidationBudget,
    estimate_validated,
    select_validation_cases,
)


def case(name: str, *held: int, shape=(32, 32, 32)) -> CachedCase:
    counts = tuple(10 if code in held or code == 1 else 0 for code in range(4))
    return CachedCase(name, Path(name), shape, (1.0, 1.0, 1.0), counts, (0, 0, 0, 0, 0))


def settings(*overrides: str):
    base = {"sampling": {"patch_size": [16, 16, 16]}, "train": {"iterations": 10, "batch_size": 2}}
    return ValidationBudget.of(load_config(base, overrides))


CASES = [case(f"c{i:02}") for i in range(40)]


def test_work_is_the_voxels_of_all_windows():
    # windows of 16 at steps of 8 over 32 voxels: 3 an axis
    assert settings().prediction_work((32, 32, 32)) == 27 * 16**3
    assert settings("inference.flips=[0,1]").prediction_work((32, 32, 32)) == 4 * 27 * 16**3


def test_windows_that_follow_the_size_of_the_case_count_as_large_as_they_are():
    large = "inference.max_roi_size=[64,64,64]"
    assert settings(large).prediction_work((60, 64, 33)) == 64**3  # one window, rounded up to multiples of 32
    # windows of 64 at steps of 32 over 128 voxels: 3
    assert settings(large).prediction_work((128, 64, 64)) == 3 * 64**3


def test_windows_over_slices():
    base = {
        "spatial_dims": 2,
        "preprocess": {"slices": {}},
        "sampling": {"patch_size": [16, 16]},
    }
    assert ValidationBudget.of(load_config(base)).prediction_work((5, 32, 16)) == 5 * 3 * 16**2
    large = ["inference.max_roi_size=[64,64]"]
    assert ValidationBudget.of(load_config(base, large)).prediction_work((5, 60, 16)) == 5 * 64 * 32


def test_validation_leaves_time_for_training():
    """40 cases of 27 windows an epoch of 20 patches took 18 times as long as the training itself."""
    selection = select_validation_cases(CASES, settings())
    assert len(selection.cases) == 1  # at least one case of each class
    assert selection.full_share == pytest.approx(40 * 27 / (3 * 20))
    selection = select_validation_cases(CASES, settings("train.iterations=1000"))
    assert len(selection.cases) == 40  # 0.2 · 3 · 2000 / 27 = 44
    selection = select_validation_cases(CASES, settings("train.iterations=500"))
    assert len(selection.cases) == int(0.2 * 3 * 1000 / 27) == 22
    assert selection.share <= 0.2
    assert "22 of 40 cases" in selection.describe()
    assert "train.validate_share" in selection.describe()
    assert estimate_validated(CASES[:4], settings("train.iterations=500"), 40) == 22


def test_a_number_of_cases_and_no_limit():
    assert (
        len(select_validation_cases(CASES, settings("train.iterations=500", "train.validate_cases=5")).cases)
        == 5
    )
    assert len(select_validation_cases(CASES, settings("train.validate_share=null")).cases) == 40
    assert select_validation_cases([], settings()).cases == []


def test_every_class_is_validated():
    cases = [*CASES[:20], case("rare", 2), case("rarer", 3)]
    chosen = {one.id for one in select_validation_cases(cases, settings()).cases}
    assert {"rare", "rarer"} <= chosen


def test_the_choice_depends_on_seed_and_ids_alone():
    config = settings("train.iterations=100")
    ids = [one.id for one in select_validation_cases(CASES, config).cases]
    assert ids == [one.id for one in select_validation_cases(CASES, config).cases]
    assert set(ids) == {one.id for one in select_validation_cases(CASES[::-1], config).cases}
    other = select_validation_cases(CASES, settings("train.iterations=100", "seed=1")).cases
    assert set(ids) != {one.id for one in other}


def test_a_resumed_run_validates_the_same_cases():
    config = settings("train.iterations=100")
    kept = select_validation_cases(CASES, config, ["c03", "c30"])
    assert [one.id for one in kept.cases] == ["c03", "c30"]
    assert "c99" not in {one.id for one in select_validation_cases(CASES, config, ["c99"]).cases}
