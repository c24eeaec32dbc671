"""Curves over the steps of a training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from medseg.report.html import show
from medseg.report.plots import svg
from medseg.report.plots.svg import WIDTH, Scale

_DASHES = (None, "6 3", "2 3", "8 3 2 3")
_RIGHT, _TOP, _BOTTOM = WIDTH - 14.0, 26.0, 196.0
"""Edges of the plotted area."""
_MOST_DOTS = 60
"""Points of a curve up to which each is a dot."""


@dataclass(frozen=True)
class Curve:
    """A curve.

    Attributes:
        name: of the curve.
        x, y: (N,) coordinates; points whose y is nan are left out.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]


def curve_plot(
    curves: Sequence[Curve],
    title: str,
    *,
    log: bool = False,
    score: bool = False,
    mark: float | None = None,
    axis: str = "step",
) -> Markup:
    """Draw curves over the steps; curves differ in color and, beyond that, in their dashes.

    Args:
        curves: the curves.
        title: what is drawn.
        log: whether the vertical scale is logarithmic.
        score: whether the values are scores from 0 to 1.
        mark: step at which a dashed line is drawn, such as that of the best validation.
        axis: title of the horizontal axis.
    """
    kept = [_points(curve, log=log) for curve in curves]
    steps = [x for points in kept for x, _ in points] or [0.0, 1.0]
    y = _value_scale([y for points in kept for _, y in points], log=log, score=score)
    left = max(42.0, 10 + max(svg.text_width(svg.tick_text(value)) for value in y.ticks(5)))
    x = Scale(min(0, *steps), max(steps), left, _RIGHT)
    parts = [svg.x_axis(x, _TOP, _BOTTOM, axis), svg.y_axis(y, left, _RIGHT, title)]
    if mark is not None:
        parts += [svg.line((x(mark), _TOP), (x(mark), _BOTTOM), "zero")]
    for index, (curve, points) in enumerate(zip(curves, kept, strict=True)):
        places = [(x(a), y(b)) for a, b in points]
        parts += _line(places, index)
        if len(points) <= _MOST_DOTS:
            hovers = [f"{curve.name}, {axis} {show(int(a))}: {svg.tick_text(b)}" for a, b in points]
            fill = svg.color("f", index)
            parts += [svg.dot(*place, fill, hover, 2.4) for place, hover in zip(places, hovers, strict=True)]
    height = _BOTTOM + 38
    if len(curves) > 1:
        legend, rows = _legend([curve.name for curve in curves], height)
        parts += legend
        height += 12 + 15 * (rows - 1)
    ends = "; ".join(
        f"{curve.name}: {svg.tick_text(points[0][1])} at step {show(int(points[0][0]))}, "
        f"{svg.tick_text(points[-1][1])} at step {show(int(points[-1][0]))}"
        for curve, points in zip(curves, kept, strict=True)
        if points
    )
    return svg.plot(height, f"{title} over the steps. {ends}", *parts)


def _points(curve: Curve, *, log: bool) -> list[tuple[float, float]]:
    """Return the finite points of a curve; on a logarithmic scale, those above 0."""
    points = zip(curve.x, curve.y, strict=True)
    return [(x, y) for x, y in points if math.isfinite(y) and (y > 0 or not log)]


def _value_scale(values: Sequence[float], *, log: bool, score: bool) -> Scale:
    """Return the vertical scale."""
    if log and values:
        return Scale(min(values) * 0.9, max(values) * 1.1, _BOTTOM, _TOP, log=True)
    if score:
        return Scale(*svg.score_domain(values), _BOTTOM, _TOP)
    include = (0,) if values and min(values) > 0 else ()
    return Scale(*svg.fit_domain(values, include=include), _BOTTOM, _TOP)


def _line(places: Sequence[tuple[float, float]], index: int) -> list[Markup]:
    """Return the line of a curve; none for a single point."""
    if len(places) < 2:
        return []
    drawn, dash = svg.polyline(places, svg.color("s", index)), _DASHES[index // svg.COLORS % len(_DASHES)]
    if dash is None:
        return [drawn]
    return [Markup(str(drawn).replace("<polyline ", f'<polyline stroke-dasharray="{dash}" ', 1))]


def _legend(names: Sequence[str], top: float) -> tuple[list[Markup], int]:
    """Return the entries of a legend and the number of its rows."""
    parts: list[Markup] = []
    row, x = 0, 42.0
    for index, name in enumerate(names):
        text = svg.shorten(name, 150)
        width = 18 + svg.text_width(text) + 14
        if x > 42 and x + width > WIDTH:
            row, x = row + 1, 42.0
        place = top + 6 + 15 * row
        parts += [svg.rect(x, place - 8, 14, 8, svg.color("f", index)), svg.label(x + 18, place, text)]
        x += width
    return parts, row + 1
