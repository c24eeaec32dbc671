import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medseg.optim import (
    AdamConfig,
    AdamWConfig,
    ConstantSchedule,
    CosineSchedule,
    PlateauSchedule,
    PolynomialSchedule,
    SGDConfig,
    StepSchedule,
    learning_rate,
    learning_rate_at,
)

SCHEDULES = [ConstantSchedule(), CosineSchedule(), PolynomialSchedule(), StepSchedule(), PlateauSchedule()]


def factors(schedule, steps):
    return [schedule.factor(step, steps) for step in range(steps)]


def test_constant():
    assert factors(ConstantSchedule(), 3) == [1, 1, 1]


def test_cosine_by_hand():
    # (1 + cos πt) / 2 at t = 0, 1/4, 1/2, 3/4
    half = math.sqrt(0.5)
    assert factors(CosineSchedule(), 4) == pytest.approx([1, (1 + half) / 2, 0.5, (1 - half) / 2])
    # floor 0.2: 0.2 + 0.8 · 0.5 = 0.6 half way
    assert CosineSchedule(floor=0.2).factor(2, 4) == pytest.approx(0.6)


def test_polynomial_by_hand():
    # (1 - t)² at t = 0, 1/4, 1/2, 3/4
    assert factors(PolynomialSchedule(power=2), 4) == pytest.approx([1, 9 / 16, 1 / 4, 1 / 16])
    assert PolynomialSchedule().factor(1, 2) == pytest.approx(0.5**0.9)


def test_step_by_hand():
    # shares 0, 1/4, 1/2, 3/4: reduced from 1/2 on, again from 3/4 on
    assert factors(StepSchedule(gamma=0.1), 4) == pytest.approx([1, 1, 0.1, 0.01])


def test_warm_up_by_hand():
    # a half of 4 steps warms up: 1/3, 2/3; then the schedule over the other 2: t = 0, 1/2
    schedule = PolynomialSchedule(power=1, warmup=0.5)
    assert factors(schedule, 4) == pytest.approx([1 / 3, 2 / 3, 1, 1 / 2])


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)
@given(steps=st.integers(1, 300), warmup=st.floats(0, 0.99))
def test_factors_stay_between_0_and_1(schedule, steps, warmup):
    schedule = schedule.model_copy(update={"warmup": warmup})
    values = factors(schedule, steps)
    assert all(0 < f <= 1 for f in values) or schedule.name == "cosine"
    assert all(0 <= f <= 1 for f in values)


def test_plateau_counts_reductions():
    schedule = PlateauSchedule(patience=2)
    assert schedule.count_reductions([]) == 0
    assert schedule.count_reductions([0.1, 0.2, 0.3]) == 0
    assert schedule.count_reductions([0.5, 0.5]) == 0  # one wait
    assert schedule.count_reductions([0.5, 0.5, 0.4]) == 1  # two waits
    assert schedule.count_reductions([0.5, 0.5, 0.4, 0.4, 0.4]) == 2
    assert schedule.count_reductions([0.5, 0.4, 0.6, 0.5]) == 0  # a better score starts the wait anew
    assert schedule.count_reductions([math.nan, math.nan]) == 1  # no score is no better score


def test_learning_rate():
    plateau = PlateauSchedule(gamma=0.5, patience=1)
    # one score, then two without a better one: 0.1 · 0.5²
    assert learning_rate(0.1, plateau, 5, 10, [1, 0, 0]) == pytest.approx(0.025)
    assert learning_rate(0.1, PolynomialSchedule(power=1), 5, 10, [1, 0, 0]) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (SGDConfig(lr=0.5), torch.optim.SGD),
        (SGDConfig(lr=0.5, momentum=0), torch.optim.SGD),
        (AdamConfig(lr=0.5), torch.optim.Adam),
        (AdamWConfig(lr=0.5), torch.optim.AdamW),
    ],
)
def test_optimizers_lower_a_loss(config, kind):
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = config.build([weight])
    (weight**2).sum().backward()
    optimizer.step()
    assert type(optimizer) is kind
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert abs(weight.item()) < 1


@pytest.mark.parametrize("config", [SGDConfig(fused=True), AdamConfig(fused=True), AdamWConfig(fused=True)])
def test_fused_updates_are_about_the_usual_ones(config):
    results = []
    for one in (config, config.model_copy(update={"fused": False})):
        weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
        optimizer = one.build([weight])
        for _ in range(3):
            optimizer.zero_grad()
            (weight**2).sum().backward()
            optimizer.step()
        results.append(weight.detach())
    assert torch.allclose(*results, atol=1e-6)


def test_positions_in_a_schedule_by_hand():
    # a fifth warms up: half of it gives 1/2; then half of what is left: (1 - 1/2)²
    schedule = PolynomialSchedule(power=2, warmup=0.2)
    assert schedule.factor_at(0.1) == pytest.approx(0.5)
    assert schedule.factor_at(0.6) == pytest.approx(0.25)
    assert learning_rate_at(0.1, schedule, 1.0, []) == 0.0
    # two validations without a better score halve the rate
    assert learning_rate_at(1.0, PlateauSchedule(patience=2), 0.7, [0.5, 0.4, 0.3]) == 0.5
