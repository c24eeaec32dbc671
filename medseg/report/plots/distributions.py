"""Plots of distributions: box plots with every case as a point, histograms, bars, intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from medseg.report.html import join, show
from medseg.report.plots import svg
from medseg.report.plots.svg import WIDTH, Scale

_ROW = 44
_AXIS = 36
_ENDLESS = 22
"""Width of the strip of infinite values."""


@dataclass(frozen=True)
class Group:
    """Values of one label or method.

    Attributes:
        name: of the group.
        values: (N,) values; nan is left out, inf is drawn in a strip of its own.
        cases: (N,) names of the points.
    """

    name: str
    values: Sequence[float]
    cases: Sequence[str]


def box_plot(
    groups: Sequence[Group], title: str, *, score: bool = False, unit: str = "", digits: int = 3
) -> Markup:
    """Draw quartiles and every case as a point, one row per group.

    The box spans the quartiles, the thick line is the median, and the whiskers reach the lowest and highest
    value within 1.5 box lengths of the box (Tukey 1977).

    Args:
        groups: the groups, from top to bottom.
        title: what is measured.
        score: whether the values are scores from 0 to 1.
        unit: of the values.
        digits: decimals in the texts of points.
    """
    finite = [value for group in groups for value in group.values if math.isfinite(value)]
    endless = any(math.isinf(value) for group in groups for value in group.values)
    left, right = _margin([group.name for group in groups]), WIDTH - 12 - (_ENDLESS if endless else 0)
    domain = (
        svg.score_domain(finite) if score else svg.fit_domain(finite, include=(0,) if _positive(finite) else ())
    )
    scale = Scale(*domain, left, right)
    bottom = 6 + _ROW * len(groups)
    axis = f"{title} ({unit})" if unit else title
    parts = [svg.x_axis(scale, 4, bottom, axis)]
    if endless:
        x = right + _ENDLESS / 2 + 4
        parts += [svg.line((x, 4), (x, bottom), "g"), svg.label(x, bottom + 14, "∞", "t m")]
    for index, group in enumerate(groups):
        middle = 6 + _ROW * (index + 0.5)
        parts += [svg.label(left - 6, middle + 4, svg.shorten(group.name, left - 8), "e")]
        parts += [_box(group, scale, middle, index), _points(group, (scale, index), middle, (unit, digits))]
    described = "; ".join(_describe(group, unit, digits) for group in groups)
    return svg.plot(bottom + _AXIS, f"Box plot of {title}. {described}", *parts)


def histogram(
    series: Sequence[Group], title: str, *, bins: int = 24, log: bool = False, unit: str = ""
) -> Markup:
    """Draw how many values are in each of ``bins`` equal intervals; several series are drawn one below another.

    Args:
        series: the values, one histogram each, on one scale.
        title: what is measured.
        bins: number of intervals.
        log: whether intervals are equal on a logarithmic scale; values that are not positive are left out.
        unit: of the values.
    """
    kept = [[v for v in one.values if math.isfinite(v) and (v > 0 or not log)] for one in series]
    values = [value for one in kept for value in one]
    low, high = _bounds(values, log)
    edges = np.geomspace(low, high, bins + 1) if log else np.linspace(low, high, bins + 1)
    counts = [np.histogram(one, edges)[0] for one in kept]
    top, each, left = (26 if len(series) > 1 else 6), 84 if len(series) == 1 else 62, 32.0
    scale = Scale(low, high, left, WIDTH - 12, log)
    parts: list[Markup] = []
    for index, (one, count) in enumerate(zip(series, counts, strict=True)):
        start = index * (each + top)
        height = Scale(0, max(int(count.max()), 1), start + top + each, start + top)
        parts.append(svg.y_axis(height, left, WIDTH - 12, count=2))
        if len(series) > 1:
            parts.append(svg.label(left, start + 19, f"{one.name} (n = {len(kept[index])})", "head"))
        for bin_, n in enumerate(count):
            x, end = scale(float(edges[bin_])), scale(float(edges[bin_ + 1]))
            hover = f"{svg.tick_text(float(edges[bin_]))} to {svg.tick_text(float(edges[bin_ + 1]))}: {n}"
            y = height(int(n))
            if n:
                parts.append(
                    svg.rect(x + 0.4, y, end - x - 0.8, start + top + each - y, svg.color("f", index), hover)
                )
    bottom = len(series) * (each + top)
    axis = svg.x_axis(scale, bottom, bottom, f"{title} ({unit})" if unit else title)
    described = "; ".join(_describe(one, unit, 2) for one in series)
    return svg.plot(bottom + _AXIS, f"Histogram of {title}. {described}", *parts, axis)


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        name: of the label or method.
        value, low, high: the mean and the ends of its interval.
    """

    name: str
    value: float
    low: float
    high: float


def interval_plot(estimates: Sequence[Estimate], title: str, *, reference: float | None = None) -> Markup:
    """Draw means with their intervals, one row each, and a dashed line at ``reference``."""
    ends = [end for one in estimates for end in (one.low, one.high, one.value)]
    left = _margin([one.name for one in estimates])
    domain = svg.fit_domain(ends, include=() if reference is None else (reference,), share=0.1)
    scale = Scale(*domain, left, WIDTH - 12)
    bottom = 6 + 30 * len(estimates)
    parts = [svg.x_axis(scale, 4, bottom, title)]
    if reference is not None:
        parts.append(svg.line((scale(reference), 4), (scale(reference), bottom), "zero"))
    texts: list[str] = []
    for index, one in enumerate(estimates):
        y = 6 + 30 * (index + 0.5)
        text = f"{one.name}: {show(one.value)} ({show(one.low)} to {show(one.high)})"
        texts.append(text)
        parts.append(svg.label(left - 6, y + 4, svg.shorten(one.name, left - 8), "e"))
        if math.isfinite(one.low) and math.isfinite(one.high):
            parts.append(
                svg.line((scale(one.low), y), (scale(one.high), y), f"line {svg.color('s', index)}", text)
            )
        if math.isfinite(one.value):
            parts.append(svg.dot(scale(one.value), y, svg.color("f", index), text, 4.5))
    return svg.plot(bottom + _AXIS, f"{title}. {'; '.join(texts)}", *parts)


def bar_chart(names: Sequence[str], values: Sequence[float], title: str, *, digits: int = 0) -> Markup:
    """Draw one horizontal bar per name, with its value at the end."""
    left = _margin(names)
    scale = Scale(0, max([value for value in values if math.isfinite(value)] or [1]) or 1, left, WIDTH - 62)
    parts: list[Markup] = []
    for index, (name, value) in enumerate(zip(names, values, strict=True)):
        y = 6 + 22 * index
        text = show(int(value) if digits == 0 else value, digits)
        parts.append(svg.label(left - 6, y + 13, svg.shorten(name, left - 8), "e"))
        parts.append(svg.rect(left, y + 2, scale(value) - left, 16, "f1", f"{name}: {text}"))
        parts.append(svg.label(scale(value) + 5, y + 14, text))
    bottom = 6 + 22 * len(names)
    axis = svg.label((left + WIDTH) / 2, bottom + 14, title, "t m")
    described = ", ".join(f"{n}: {show(v, digits)}" for n, v in zip(names, values, strict=True))
    return svg.plot(bottom + 22, f"{title}. {described}", *parts, axis)


def _box(group: Group, scale: Scale, middle: float, index: int) -> Markup:
    values = np.sort([value for value in group.values if math.isfinite(value)])
    if len(values) < 4:
        return Markup("")
    q1, median, q3 = (float(q) for q in np.percentile(values, (25, 50, 75)))
    reach = 1.5 * (q3 - q1)
    low = float(values[values >= q1 - reach].min())
    high = float(values[values <= q3 + reach].max())
    return join(
        [
            svg.line((scale(low), middle), (scale(q1), middle), "range"),
            svg.line((scale(q3), middle), (scale(high), middle), "range"),
            svg.rect(scale(q1), middle - 11, scale(q3) - scale(q1), 22, "box"),
            svg.line((scale(median), middle - 11), (scale(median), middle + 11), "median"),
        ]
    )


def _points(group: Group, place: tuple[Scale, int], middle: float, style: tuple[str, int]) -> Markup:
    scale, index = place
    unit, digits = style
    kept = [(v, case) for v, case in zip(group.values, group.cases, strict=True) if not math.isnan(v)]
    radius = 2.8 if len(kept) <= 300 else 1.8
    endless = scale.end + _ENDLESS / 2 + 4
    positions = [endless if math.isinf(value) else scale(value) for value, _ in kept]
    offsets = svg.swarm(positions, _ROW / 2 - 5, radius)
    ending = f" {unit}" if unit else ""
    return join(
        svg.dot(x, middle + offset, svg.color("f", index), f"{case}: {show(value, digits)}{ending}", radius)
        for (value, case), x, offset in zip(kept, positions, offsets, strict=True)
    )


def _describe(group: Group, unit: str, digits: int) -> str:
    values = [value for value in group.values if not math.isnan(value)]
    if not values:
        return f"{group.name}: no values"
    low, median, high = min(values), statistics.median(values), max(values)
    ending = f" {unit}" if unit else ""
    text = f"median {show(median, digits)}, from {show(low, digits)} to {show(high, digits)}{ending}"
    return f"{group.name}: n = {len(values)}, {text}"


def _margin(names: Sequence[str]) -> float:
    """Return the room left of a plot for the names of its rows."""
    return min(130.0, 14 + max((svg.text_width(name) for name in names), default=0))


def _bounds(values: Sequence[float], log: bool) -> tuple[float, float]:
    if not values:
        return (1.0, 10.0) if log else (0.0, 1.0)
    low, high = min(values), max(values)
    if low == high:
        return (low / 2, high * 2) if log else (low - 0.5, high + 0.5)
    return low, high


def _positive(values: Sequence[float]) -> bool:
    return bool(values) and min(values) >= 0
