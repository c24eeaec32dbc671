"""Plots of agreement: Bland–Altman, reliability curve, confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from medseg.report.html import show
from medseg.report.plots import svg
from medseg.report.plots.svg import WIDTH, Scale

_MOST_CLASSES = 24


@dataclass(frozen=True)
class Agreement:
    """Bias and limits of agreement of two measurements (Bland and Altman 1986).

    Attributes:
        bias: mean difference.
        low, high: bias ± 1.96 standard deviations of the differences; nan with fewer than 2 cases.
    """

    bias: float
    low: float
    high: float

    @classmethod
    def of(cls, reference: Sequence[float], predicted: Sequence[float]) -> Agreement:
        """Compute the agreement of predicted with reference values.

        Example:
            >>> Agreement.of([1, 2, 3], [2, 3, 4])
            Agreement(bias=1.0, low=1.0, high=1.0)
        """
        differences = np.subtract(predicted, reference).astype(float)
        bias = float(differences.mean()) if differences.size else math.nan
        reach = 1.96 * float(differences.std(ddof=1)) if differences.size > 1 else math.nan
        return cls(bias, bias - reach, bias + reach)


def bland_altman(
    reference: Sequence[float],
    predicted: Sequence[float],
    cases: Sequence[str],
    *,
    unit: str = "",
    title: str = "",
) -> Markup:
    """Draw the difference of two volumes over their mean, with bias and limits of agreement."""
    agreement = Agreement.of(reference, predicted)
    means = [(a + b) / 2 for a, b in zip(reference, predicted, strict=True)]
    differences = [b - a for a, b in zip(reference, predicted, strict=True)]
    ends = [value for value in (agreement.low, agreement.high, 0.0) if math.isfinite(value)]
    left, right, bottom = 46.0, WIDTH - 66.0, 214.0
    x = Scale(*svg.fit_domain(means), left, right)
    y = Scale(*svg.fit_domain([*differences, *ends], share=0.08), bottom, 26)
    parts = [svg.x_axis(x, 26, bottom, f"mean of reference and prediction ({unit})")]
    parts.append(svg.y_axis(y, left, right, f"prediction − reference ({unit})"))
    if math.isfinite(agreement.low):
        parts.append(
            svg.rect(left, y(agreement.high), right - left, y(agreement.low) - y(agreement.high), "band")
        )
    parts.append(svg.line((left, y(0)), (right, y(0)), "zero"))
    used: list[float] = []
    for name, value in (("bias", agreement.bias), ("+1.96 sd", agreement.high), ("−1.96 sd", agreement.low)):
        if math.isfinite(value):
            parts.append(svg.line((left, y(value)), (right, y(value)), "s1"))
            place = y(value) + 4
            if all(abs(place - one) >= 11 for one in used):
                used.append(place)
                parts.append(svg.label(right + 4, place, name))
    for mean, difference, case in zip(means, differences, cases, strict=True):
        hover = f"{case}: {svg.tick_text(difference)} {unit} at a mean of {svg.tick_text(mean)} {unit}"
        parts.append(svg.dot(x(mean), y(difference), "f1", hover))
    text = (
        f"Bland–Altman plot{f' of {title}' if title else ''}: bias {svg.tick_text(agreement.bias)} {unit}, "
        f"limits of agreement {svg.tick_text(agreement.low)} to {svg.tick_text(agreement.high)} {unit}, "
        f"{len(cases)} cases"
    )
    return svg.plot(bottom + 36, text, *parts)


def reliability_curve(
    confidence: Sequence[float], accuracy: Sequence[float], counts: Sequence[float]
) -> Markup:
    """Draw how often a predicted probability is right, over the probability; the diagonal is calibrated.

    Args:
        confidence: (B,) mean probability of each bin.
        accuracy: (B,) share of its voxels that have the class.
        counts: (B,) number of its voxels; the area of a point grows with it.
    """
    left, right, top, bottom = 36.0, 300.0, 26.0, 290.0
    x, y = Scale(0, 1, left, right), Scale(0, 1, bottom, top)
    parts = [svg.x_axis(x, top, bottom, "predicted probability"), svg.y_axis(y, left, right, "observed share")]
    parts.append(svg.line((left, bottom), (right, top), "zero"))
    rows = [
        row for row in zip(confidence, accuracy, counts, strict=True) if row[2] > 0 and math.isfinite(row[1])
    ]
    parts.append(svg.polyline([(x(a), y(b)) for a, b, _ in rows], "s1"))
    largest = max((count for *_, count in rows), default=1)
    for a, b, count in rows:
        hover = f"probability {show(a, 2)}: {show(b, 2)} observed, {show(int(count))} voxels"
        parts.append(svg.dot(x(a), y(b), "f1", hover, 2.5 + 5 * math.sqrt(count / largest)))
    points = "; ".join(f"{show(a, 2)} predicted, {show(b, 2)} observed" for a, b, _ in rows)
    return svg.plot(bottom + 36, f"Reliability curve: {points}", *parts)


def confusion_plot(matrix: Sequence[Sequence[float]], names: Sequence[str]) -> Markup:
    """Draw a confusion matrix: each row shows where the pixels of a reference class went, in percent.

    Args:
        matrix: (K, K) counts, reference by rows and prediction by columns.
        names: (K,) names of the classes. Only the first 24 classes are drawn.
    """
    counts = np.asarray(matrix, float)[:_MOST_CLASSES, :_MOST_CLASSES]
    totals = np.asarray(matrix, float).sum(axis=1)[: len(counts), None]
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    size = len(counts)
    left = min(110.0, 14 + max(svg.text_width(name) for name in names[:size]))
    cell = min((WIDTH - left - 6) / size, 56.0)
    top = 22.0
    parts = [svg.label(left, 12, "prediction →", "t"), svg.label(0, 12, "reference ↓", "t")]
    for row in range(size):
        parts.append(svg.label(left - 6, top + cell * (row + 0.5) + 4, svg.shorten(names[row], left - 8), "e"))
        for column in range(size):
            share = float(shares[row, column])
            hover = f"{names[row]} predicted as {names[column]}: {100 * share:.2f}%"
            x, y = left + cell * column, top + cell * row
            parts.append(svg.rect(x, y, cell, cell, "empty"))
            shade = svg.rect(x, y, cell, cell, "cell", hover)
            parts.append(
                Markup(str(shade).replace("<rect ", f'<rect fill-opacity="{0.06 + 0.94 * share:.3f}" ', 1))
            )
            if cell >= 30:
                parts.append(
                    svg.label(
                        x + cell / 2, y + cell / 2 + 4, f"{100 * share:.1f}", "m over" if share > 0.55 else "m"
                    )
                )
    bottom = top + cell * size
    for column in range(size):
        if cell >= 30 or size <= 12:
            parts.append(
                svg.label(
                    left + cell * (column + 0.5), bottom + 14, svg.shorten(names[column], cell - 10), "t m"
                )
            )
    text = ", ".join(f"{names[i]} {100 * float(shares[i, i]):.1f}%" for i in range(size))
    return svg.plot(
        bottom + 22, f"Confusion matrix. Share of the pixels of each class that are right: {text}", *parts
    )
