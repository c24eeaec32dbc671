"""Plots of the comparison of methods: paired scores, paired differences, stability of rankings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from medseg.report.html import show
from medseg.report.plots import svg
from medseg.report.plots.svg import WIDTH, Scale


@dataclass(frozen=True)
class Difference:
    """Paired differences of two methods.

    Attributes:
        name: what is compared, such as ``B − A``.
        values: (N,) difference of each case; nan is left out.
        cases: (N,) names of the cases.
        mean, low, high: mean and interval.
    """

    name: str
    values: Sequence[float]
    cases: Sequence[str]
    mean: float
    low: float
    high: float


def difference_plot(
    differences: Sequence[Difference], title: str, *, higher: bool = True, margin: float | None = None
) -> Markup:
    """Draw each case's difference as a point, with the mean and its interval below; 0 means no difference.

    Args:
        differences: one row each.
        title: what the difference is of.
        higher: whether higher differences are better.
        margin: margin of non-inferiority, drawn at the loss of this size.
    """
    values = [v for one in differences for v in (*one.values, one.low, one.high) if math.isfinite(v)]
    left = min(130.0, 14 + max((svg.text_width(one.name) for one in differences), default=0))
    sign = 1 if higher else -1
    include = (0.0,) if margin is None else (0.0, -sign * margin)
    scale = Scale(*svg.fit_domain(values, include=include), left, WIDTH - 12)
    row = 58.0
    bottom = 6 + row * len(differences)
    parts = [svg.x_axis(scale, 4, bottom, title), svg.line((scale(0), 4), (scale(0), bottom), "zero")]
    if margin is not None:
        x = scale(-sign * margin)
        parts.append(svg.line((x, 4), (x, bottom), "s2"))
    for index, one in enumerate(differences):
        top = 6 + row * index
        parts.append(svg.label(left - 6, top + 24, svg.shorten(one.name, left - 8), "e"))
        kept = [(v, case) for v, case in zip(one.values, one.cases, strict=True) if math.isfinite(v)]
        offsets = svg.swarm([scale(v) for v, _ in kept], 15)
        for (value, case), offset in zip(kept, offsets, strict=True):
            better = "f1" if sign * value >= 0 else "f2"
            parts.append(
                svg.dot(scale(value), top + 20 + offset, better, f"{case}: {show(value, signed=True)}")
            )
        low, high = show(one.low, signed=True), show(one.high, signed=True)
        text = f"mean {show(one.mean, signed=True)} ({low} to {high})"
        if math.isfinite(one.low) and math.isfinite(one.high):
            parts.append(svg.line((scale(one.low), top + 46), (scale(one.high), top + 46), "median", text))
        if math.isfinite(one.mean):
            parts.append(svg.dot(scale(one.mean), top + 46, "mean", text, 4.2))
    described = "; ".join(
        f"{one.name}: mean {show(one.mean, signed=True)}, interval {show(one.low, signed=True)} to "
        f"{show(one.high, signed=True)}, better in {sum(sign * v > 0 for v in one.values)} and worse in "
        f"{sum(sign * v < 0 for v in one.values)} of {len(one.values)} cases"
        for one in differences
    )
    return svg.plot(bottom + 36, f"{title}. {described}", *parts)


def paired_scatter(
    first: Sequence[float], second: Sequence[float], cases: Sequence[str], names: tuple[str, str], title: str
) -> Markup:
    """Draw the scores of one method over those of another, with the diagonal of equal scores."""
    rows = [
        row for row in zip(first, second, cases, strict=True) if math.isfinite(row[0]) and math.isfinite(row[1])
    ]
    values = [value for a, b, _ in rows for value in (a, b)]
    domain = svg.score_domain(values) if all(0 <= value <= 1 for value in values) else svg.fit_domain(values)
    left, right, top, bottom = 40.0, 320.0, 26.0, 306.0
    x, y = Scale(*domain, left, right), Scale(*domain, bottom, top)
    parts = [
        svg.x_axis(x, top, bottom, f"{title}, {names[0]}"),
        svg.y_axis(y, left, right, f"{title}, {names[1]}"),
    ]
    parts.append(svg.line((left, bottom), (right, top), "zero"))
    for a, b, case in rows:
        hover = f"{case}: {names[0]} {show(a)}, {names[1]} {show(b)}"
        parts.append(svg.dot(x(a), y(b), "f1" if b >= a else "f2", hover, 3.2))
    above, below = sum(b > a for a, b, _ in rows), sum(b < a for a, b, _ in rows)
    text = f"{title} of {names[1]} over {names[0]}: higher in {above}, lower in {below} of {len(rows)} cases"
    return svg.plot(bottom + 36, text, *parts)


def rank_plot(methods: Sequence[str], shares: Sequence[Sequence[float]]) -> Markup:
    """Draw how often each method has each rank in bootstrap samples of the cases (Wiesenfarth et al. 2021).

    Args:
        methods: (M,) names.
        shares: (M, M) share of the samples in which a method (row) has a rank (column), 0 to 1.
    """
    left = min(150.0, 14 + max((svg.text_width(name) for name in methods), default=0))
    size = len(methods)
    step = min((WIDTH - left - 20) / max(size, 1), 60.0)
    row = min(step, 44.0)
    parts: list[Markup] = []
    for rank in range(size):
        x = left + step * (rank + 0.5)
        parts += [
            svg.line((x, 6), (x, 6 + row * size), "g"),
            svg.label(x, 20 + row * size, str(rank + 1), "t m"),
        ]
    texts: list[str] = []
    for index, (name, own) in enumerate(zip(methods, shares, strict=True)):
        y = 6 + row * (index + 0.5)
        parts.append(svg.label(left - 6, y + 4, svg.shorten(name, left - 8), "e"))
        for rank, share in enumerate(own):
            if share > 0:
                hover = f"{name}: rank {rank + 1} in {100 * share:.1f}% of the samples"
                radius = round(max(1.5, (row / 2 - 2) * math.sqrt(share)), 2)
                parts.append(svg.dot(left + step * (rank + 0.5), y, svg.color("f", index), hover, radius))
        best = max(range(len(own)), key=lambda i: own[i], default=0)
        texts.append(f"{name}: rank {best + 1} in {100 * own[best]:.0f}% of the samples")
    axis = svg.label(left + step * size / 2, 36 + row * size, "rank", "t m")
    return svg.plot(42 + row * size, f"Stability of the ranking. {'; '.join(texts)}", *parts, axis)
