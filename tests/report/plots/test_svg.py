import math
import re

import pytest

from medseg.report.plots.svg import (
    WIDTH,
    Scale,
    fit_domain,
    round_ticks,
    score_domain,
    shorten,
    swarm,
    tick_text,
    x_axis,
)


def test_scales_map_and_clip():
    scale = Scale(0, 10, 100, 200)
    assert [scale(value) for value in (-1, 0, 5, 10, 11)] == [100, 100, 150, 200, 200]
    assert Scale(0, 1, 50, 10)(0.25) == 40  # upwards
    assert Scale(1, 100, 0, 100, log=True)(10) == 50


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.5, 1, [0.5, 0.6, 0.7, 0.8, 0.9, 1]),
        (-3, 7, [-2, 0, 2, 4, 6]),
        (2, 2, [2]),
    ],
)
def test_round_ticks(low, high, ticks):
    assert round_ticks(low, high) == pytest.approx(ticks)


def test_ticks_of_logarithmic_scales():
    assert Scale(1, 1000, 0, 1, log=True).ticks() == [1, 10, 100, 1000]
    assert Scale(3, 30, 0, 1, log=True).ticks() == [5, 10, 20]


def test_domains():
    assert fit_domain([1, 2, math.inf, math.nan]) == pytest.approx((0.96, 2.04))
    assert fit_domain([], include=(0,)) == (-0.5, 0.5)
    assert fit_domain([3.0, 3.0]) == pytest.approx((2.88, 3.12))
    assert score_domain([0.83, 0.99]) == (0.8, 1.0)
    assert score_domain([0.0]) == (0.0, 1.0)


def test_texts():
    assert [tick_text(v) for v in (0.1 + 0.2, 12000, 2.5e6, -0.5)] == ["0.3", "12k", "2.5M", "−0.5"]
    assert shorten("segmentation", 1000) == "segmentation"
    assert len(shorten("a" * 50, 65)) == 10


def test_points_of_a_swarm_keep_their_distance():
    offsets = swarm([10.0, 10.0, 10.0, 90.0], room=20)
    assert offsets[3] == 0
    assert sorted(offsets[:3]) == pytest.approx([-4.76, 0, 4.76])
    assert max(map(abs, swarm([5.0] * 100, room=20))) <= 20


def test_the_last_label_of_an_axis_is_not_cut_off():
    axis = x_axis(Scale(0, 0.035, 40, WIDTH - 12), 0, 100)
    last = re.findall(r'x="([0-9.]+)"[^>]*>0.035<', axis)
    assert float(last[0]) + 5 * 3.25 <= WIDTH
