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
    kept = [
        [(x, y) for x, y in zip(c.x, c.y, strict=True) if math.isfinite(y) and (y > 0 or not log)]
        for c in curves
    ]
    values = [y for points in kept for _, y in points]
    steps = [x for points in kept for x, _ in points] or [0.0, 1.0]
    legend = _legend_rows([curve.name for curve in curves])
    right, top, bottom = WIDTH - 14.0, 26.0, 196.0
    if log and values:
        y = Scale(min(values) * 0.9, max(values) * 1.1, bottom, top, log=True)
    else:
        domain = (
            svg.score_domain(values)
            if score
            else svg.fit_domain(values, include=(0,) if values and min(values) > 0 else ())
        )
        y = Scale(*domain, bottom, top)
    left = max(42.0, 10 + max(svg.text_width(svg.tick_text(value)) for value in y.ticks(5)))
    x = Scale(min(0, *steps), max(steps), left, right)
    parts = [svg.x_axis(x, top, bottom, axis), svg.y_axis(y, left, right, title)]
    if mark is not None:
        parts += [svg.line((x(mark), top), (x(mark), bottom), "zero")]
    for index, points in enumerate(kept):
        style, dash = svg.color("s", index), _DASHES[index // svg.COLORS % len(_DASHES)]
        if len(points) > 1:
            drawn = svg.polyline([(x(a), y(b)) for a, b in points], style)
            parts.append(
                Markup(str(drawn).replace("<polyline ", f'<polyline stroke-dasharray="{dash}" ', 1))
                if dash
                else drawn
            )
        if len(points) <= 60:
            for a, b in points:
                hover = f"{curves[index].name}, {axis} {show(int(a))}: {svg.tick_text(b)}"
                parts.append(svg.dot(x(a), y(b), svg.color("f", index), hover, 2.4))
    height = bottom + 38
    if len(curves) > 1:
        for index, (row, column, text) in enumerate(legend):
            place = height + 6 + 15 * row
            parts.append(svg.rect(column, place - 8, 14, 8, svg.color("f", index)))
            parts.append(svg.label(column + 18, place, text))
        height += 12 + 15 * (legend[-1][0] if legend else 0)
    ends = "; ".join(
        f"{curve.name}: {svg.tick_text(points[0][1])} at step {show(int(points[0][0]))}, "
        f"{svg.tick_text(points[-1][1])} at step {show(int(points[-1][0]))}"
        for curve, points in zip(curves, kept, strict=True)
        if points
    )
    return svg.plot(height, f"{title} over the steps. {ends}", *parts)


def _legend_rows(names: Sequence[str]) -> list[tuple[int, float, str]]:
    """Return line, position and text of each entry of a legend."""
    places: list[tuple[int, float, str]] = []
    row, x = 0, 42.0
    for name in names:
        text = svg.shorten(name, 150)
        width = 18 + svg.text_width(text) + 14
        if x > 42 and x + width > WIDTH:
            row, x = row + 1, 42.0
        places.append((row, x, text))
        x += width
    return places
