"""Plots of a search over settings: scores of the trials in order, over a setting, over their validations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from medseg.report.html import show, tag
from medseg.report.plots import svg
from medseg.report.plots.svg import WIDTH, Scale

Kind = Literal["complete", "pruned", "best"]

_NAMES: dict[Kind, str] = {"complete": "complete", "pruned": "pruned (last validation)", "best": "best"}
_FILLS: dict[Kind, str] = {"complete": "f1", "pruned": "f7", "best": "f2"}
_LINES: dict[Kind, str] = {"complete": "s1", "pruned": "s7", "best": "s2"}
_RADII: dict[Kind, float] = {"complete": 3.6, "pruned": 2.6, "best": 5.0}
_TOP, _BOTTOM, _RIGHT = 26.0, 196.0, WIDTH - 14.0


@dataclass(frozen=True)
class TrialPoint:
    """A trial in a plot.

    Attributes:
        name: of the trial, such as ``trial 3``.
        x: its value on the horizontal axis; text for a category.
        y: its score.
        kind: how the trial ended.
    """

    name: str
    x: float | str
    y: float
    kind: Kind = "complete"


@dataclass(frozen=True)
class TrialCurve:
    """The validations of a trial.

    Attributes:
        name: of the trial.
        x, y: (N,) steps and scores.
        kind: how the trial ended.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    kind: Kind = "complete"


def history_plot(
    points: Sequence[TrialPoint], title: str, *, higher: bool = True, reference: float | None = None
) -> Markup:
    """Draw the score of each trial in the order of their numbers, and the best one so far as a line.

    Args:
        points: the trials; ``x`` is the number.
        title: what the score is.
        higher: whether higher scores are better.
        reference: score of the configuration that is varied, drawn as a dashed line.
    """
    kept = [point for point in points if math.isfinite(point.y)]
    extra = () if reference is None else (reference,)
    y = Scale(*svg.fit_domain([point.y for point in kept] + list(extra)), _BOTTOM, _TOP)
    x = Scale(-0.5, max([_number(point.x) for point in kept], default=0) + 0.5, _left(y), _RIGHT)
    parts = [svg.x_axis(x, _TOP, _BOTTOM, "trial"), svg.y_axis(y, x.start, _RIGHT, title)]
    if reference is not None:
        parts.append(svg.line((x.start, y(reference)), (_RIGHT, y(reference)), "zero"))
    steps: list[tuple[float, float]] = []
    best = math.nan
    for point in sorted(kept, key=lambda one: _number(one.x)):
        if point.kind != "pruned" and (math.isnan(best) or (point.y > best if higher else point.y < best)):
            if steps:
                steps.append((x(_number(point.x)), y(best)))
            best = point.y
            steps.append((x(_number(point.x)), y(best)))
    if steps:
        parts.append(svg.polyline([*steps, (_RIGHT, y(best))], "s2"))
    parts += [_dot(point, x(_number(point.x)), y) for point in _in_order(kept)]
    text = f"{title} of {len(kept)} trials; the best is {show(best)}"
    return _finish(text, parts, [point.kind for point in kept])


def slice_plot(
    points: Sequence[TrialPoint],
    title: str,
    setting: str,
    *,
    log: bool = False,
    categories: Sequence[str] = (),
) -> Markup:
    """Draw the scores of trials over the values of one setting.

    Args:
        points: the trials; ``x`` is the value, text for categories.
        title: what the score is.
        setting: name of the setting.
        log: whether the scale of the setting is logarithmic.
        categories: the categories in their order; empty for numbers.
    """
    kept = [point for point in points if math.isfinite(point.y)]
    y = Scale(*svg.fit_domain([point.y for point in kept]), _BOTTOM, _TOP)
    left = _left(y)
    parts = [svg.y_axis(y, left, _RIGHT, title)]
    if categories:
        parts += _columns(kept, categories, left, y)
        parts.append(svg.label((left + _RIGHT) / 2, _BOTTOM + 30, setting, "t m"))
    else:
        values = [_number(point.x) for point in kept]
        x = Scale(*_range(values, log), left, _RIGHT, log)
        parts.append(svg.x_axis(x, _TOP, _BOTTOM, setting))
        parts += [
            _dot(point, x(_number(point.x)), y, f"{setting} {_text(point.x)}, ") for point in _in_order(kept)
        ]
    best = next((point for point in kept if point.kind == "best"), None)
    ending = f"; the best trial has {_text(best.x)}" if best else ""
    return _finish(
        f"{title} of {len(kept)} trials over {setting}{ending}", parts, [point.kind for point in kept]
    )


def front_plot(points: Sequence[TrialPoint], titles: tuple[str, str], front: Sequence[int]) -> Markup:
    """Draw one objective over another, with a line through the trials that no other one surpasses in both.

    Args:
        points: the trials; ``x`` is the value of the other objective.
        titles: of the horizontal and the vertical axis.
        front: indices of the trials on the line.
    """
    x = Scale(*svg.fit_domain([_number(point.x) for point in points]), 0, _RIGHT)
    y = Scale(*svg.fit_domain([point.y for point in points]), _BOTTOM, _TOP)
    x = Scale(x.low, x.high, _left(y), _RIGHT)
    parts = [svg.x_axis(x, _TOP, _BOTTOM, titles[0]), svg.y_axis(y, x.start, _RIGHT, titles[1])]
    line = sorted((x(_number(points[i].x)), y(points[i].y)) for i in front)
    if len(line) > 1:
        parts.append(svg.polyline(line, "s2"))
    parts += [
        _dot(point, x(_number(point.x)), y, f"{titles[0]} {_text(point.x)}, ") for point in _in_order(points)
    ]
    named = ", ".join(f"{points[i].name} ({_text(points[i].x)}; {show(points[i].y)})" for i in front)
    return _finish(f"{titles[1]} over {titles[0]}. Front: {named}", parts, [point.kind for point in points])


def trial_curves(curves: Sequence[TrialCurve], title: str, axis: str) -> Markup:
    """Draw the validation scores of trials over their trainings; those of pruned trials are dashed."""
    kept = [curve for curve in curves if any(math.isfinite(value) for value in curve.y)]
    y = Scale(*svg.fit_domain([value for curve in kept for value in curve.y]), _BOTTOM, _TOP)
    steps = [value for curve in kept for value in curve.x] or [0.0, 1.0]
    x = Scale(min(0.0, *steps), max(steps), _left(y), _RIGHT)
    parts = [svg.x_axis(x, _TOP, _BOTTOM, axis), svg.y_axis(y, x.start, _RIGHT, title)]
    for curve in sorted(kept, key=lambda one: one.kind == "best"):
        places = [(x(a), y(b)) for a, b in zip(curve.x, curve.y, strict=True) if math.isfinite(b)]
        parts.append(_curve(curve, places))
        a, b = places[-1]
        hover = f"{curve.name}: {show(curve.y[-1])} at {axis} {_text(curve.x[-1])}"
        parts.append(svg.dot(a, b, _FILLS[curve.kind], hover, 2.6))
    return _finish(f"{title} of {len(kept)} trials over the {axis}", parts, [curve.kind for curve in kept])


def _curve(curve: TrialCurve, places: Sequence[tuple[float, float]]) -> Markup:
    return tag(
        "polyline",
        points=" ".join(f"{a:g},{b:g}" for a, b in places),
        class_=f"line {_LINES[curve.kind]}",
        stroke_opacity="1" if curve.kind == "best" else "0.5",
        stroke_dasharray="4 3" if curve.kind == "pruned" else None,
    )


def _columns(points: Sequence[TrialPoint], names: Sequence[str], left: float, y: Scale) -> list[Markup]:
    """Return one column of points per category, with its name below."""
    step = (_RIGHT - left) / len(names)
    parts: list[Markup] = []
    for index, name in enumerate(names):
        middle = left + step * (index + 0.5)
        parts.append(svg.line((middle, _TOP), (middle, _BOTTOM), "g"))
        parts.append(svg.label(middle, _BOTTOM + 14, svg.shorten(name, step - 4), "t m"))
        own = _in_order([point for point in points if point.x == name])
        offsets = svg.swarm([y(point.y) for point in own], step / 2 - 6, 3.6)
        parts += [_dot(point, middle + o, y, f"{name}, ") for point, o in zip(own, offsets, strict=True)]
    parts.append(svg.line((left, _BOTTOM), (_RIGHT, _BOTTOM)))
    return parts


def _dot(point: TrialPoint, x: float, y: Scale, more: str = "") -> Markup:
    hover = f"{point.name}: {more}{show(point.y)}"
    return svg.dot(round(x, 2), y(point.y), _FILLS[point.kind], hover, _RADII[point.kind])


def _in_order(points: Sequence[TrialPoint]) -> list[TrialPoint]:
    """Return the points with the best last, so that it is drawn over the others."""
    return sorted(points, key=lambda point: ("pruned", "complete", "best").index(point.kind))


def _finish(text: str, parts: list[Markup], kinds: Sequence[Kind]) -> Markup:
    """Return the plot with a legend of the kinds of trials in it."""
    x, place = 42.0, _BOTTOM + 48
    for kind, name in _NAMES.items():
        if kind in kinds:
            parts += [svg.dot(x + 4, place - 4, _FILLS[kind], radius=4.0), svg.label(x + 13, place, name)]
            x += 13 + svg.text_width(name) + 16
    return svg.plot(_BOTTOM + 56, text, *parts)


def _range(values: Sequence[float], log: bool) -> tuple[float, float]:
    if log and values:
        return min(values) / 1.15, max(values) * 1.15
    return svg.fit_domain(values)


def _left(y: Scale) -> float:
    return max(42.0, 10 + max(svg.text_width(svg.tick_text(value)) for value in y.ticks(5)))


def _number(value: float | str) -> float:
    return float(value)


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else svg.tick_text(value)
