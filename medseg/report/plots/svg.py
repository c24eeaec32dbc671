"""Elements of SVG plots: scales with round ticks, marks that the page's style sheet colors, axes.

Plots are 400 units wide with text of 12 units, so that they can be read on a phone; larger screens enlarge
them. They have classes instead of colors, and follow the light or dark palette of the page.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from medseg.report.html import Content, join, tag

WIDTH = 400
COLORS = 8
"""Number of colors of the palette; further series repeat them."""

_CHARACTER = 6.5
"""Approximate width of a character of the tick labels."""


@dataclass(frozen=True)
class Scale:
    """Maps values to positions.

    Attributes:
        low, high: values at both ends.
        start, end: their positions.
        log: whether the scale is logarithmic; ``low`` is then positive.

    Example:
        >>> Scale(0, 10, 100, 200)(5)
        150.0
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self._of(self.low), self._of(self.high)
        share = (self._of(min(max(value, self.low), self.high)) - low) / ((high - low) or 1)
        return round(self.start + share * (self.end - self.start), 2)

    def ticks(self, count: int = 5) -> list[float]:
        """Return about ``count`` round values within the scale."""
        return _decades(self.low, self.high, count) if self.log else round_ticks(self.low, self.high, count)

    def _of(self, value: float) -> float:
        return math.log10(value) if self.log else value


def round_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about ``count`` multiples of 1, 2 or 5 times a power of ten from ``low`` to ``high``.

    Example:
        >>> round_ticks(0, 1)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if not high > low:
        return [low]
    rough = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * min((1, 2, 5, 10), key=lambda factor: abs(factor * power - rough))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) + 0.0 for index in range(first, last + 1)]


def fit_domain(
    values: Iterable[float], *, include: Sequence[float] = (), share: float = 0.04
) -> tuple[float, float]:
    """Return a range that contains the finite values with a margin, and ``include`` without one."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        finite = list(include) or [0.0, 1.0]
    low, high = min(finite), max(finite)
    margin = (high - low) * share or abs(high) * share or 0.5
    low, high = low - margin, high + margin
    return min([low, *include]), max([high, *include])


def score_domain(values: Iterable[float]) -> tuple[float, float]:
    """Return a range for scores from 0 to 1: a round value below all of them, and 1."""
    finite = [value for value in values if math.isfinite(value)]
    lowest = min(finite, default=0.0)
    return max(0.0, math.floor(lowest * 10 - 0.2) / 10), 1.0


def tick_text(value: float) -> str:
    """Format the value of a tick.

    Example:
        >>> tick_text(0.30000000004), tick_text(20000), tick_text(-5.0)
        ('0.3', '20k', '−5')
    """
    size = abs(value)
    for limit, ending in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            return f"{value / (1e3 if ending == 'k' else limit):.4g}{ending}".replace("-", "−")
    return f"{value:.4g}".replace("-", "−")


def text_width(text: str) -> float:
    """Return the approximate width of a tick label."""
    return _CHARACTER * len(text)


def shorten(text: str, width: float) -> str:
    """Shorten a text to a width; the middle is left out."""
    most = max(4, int(width / _CHARACTER))
    return text if len(text) <= most else f"{text[: most // 2]}…{text[len(text) - (most - most // 2 - 1) :]}"


def color(kind: str, index: int) -> str:
    """Return the class of the fill (``f``) or stroke (``s``) of a series."""
    return f"{kind}{index % COLORS + 1}"


def label(x: float, y: float, text: Content, class_: str = "t") -> Markup:
    """Return a text."""
    return tag("text", text, x=x, y=y, class_=class_)


def line(
    start: tuple[float, float], end: tuple[float, float], class_: str = "x", hover: str | None = None
) -> Markup:
    """Return a line from (x, y) to (x, y)."""
    title = tag("title", hover) if hover else ""
    return tag("line", title, x1=start[0], y1=start[1], x2=end[0], y2=end[1], class_=class_)


def rect(x: float, y: float, width: float, height: float, class_: str, hover: str | None = None) -> Markup:
    """Return a rectangle with a text that appears under the mouse."""
    title = tag("title", hover) if hover else ""
    width, height = round(max(width, 0), 2), round(max(height, 0), 2)
    return tag("rect", title, x=round(x, 2), y=round(y, 2), width=width, height=height, class_=class_)


def dot(x: float, y: float, class_: str, hover: str | None = None, radius: float = 2.8) -> Markup:
    """Return a circle with a text that appears under the mouse."""
    return tag(
        "circle", tag("title", hover) if hover else "", cx=x, cy=round(y, 2), r=radius, class_=f"dot {class_}"
    )


def polyline(points: Iterable[tuple[float, float]], class_: str) -> Markup:
    """Return connected lines."""
    return tag("polyline", points=" ".join(f"{x:g},{y:g}" for x, y in points), class_=f"line {class_}")


def x_axis(scale: Scale, top: float, bottom: float, title: str = "", *, count: int = 5) -> Markup:
    """Return the axis below a plot, with lines of a grid up to ``top``."""
    parts: list[Markup] = []
    for value in scale.ticks(count):
        x, text = scale(value), tick_text(value)
        inside = min(x, WIDTH - _CHARACTER / 2 * len(text))  # where the middle of the text may be
        parts += [line((x, top), (x, bottom), "g"), label(inside, bottom + 14, text, "t m")]
    parts.append(line((scale.start, bottom), (scale.end, bottom)))
    if title:
        parts.append(label((scale.start + scale.end) / 2, bottom + 30, title, "t m"))
    return join(parts)


def y_axis(scale: Scale, left: float, right: float, title: str = "", *, count: int = 5) -> Markup:
    """Return the axis left of a plot, with lines of a grid to ``right``; its title is above."""
    parts: list[Markup] = []
    for value in scale.ticks(count):
        y = scale(value)
        parts += [line((left, y), (right, y), "g"), label(left - 5, y + 4, tick_text(value), "t e")]
    if title:
        parts.append(label(0, 11, title))
    return join(parts)


def plot(height: float, description: str, *parts: Content) -> Markup:
    """Return a plot; ``description`` says what it shows to those who cannot see it."""
    return tag(
        "svg", *parts, class_="plot", viewBox=f"0 0 {WIDTH} {height:g}", role="img", aria_label=description,
    )  # fmt: skip


def swarm(positions: Sequence[float], room: float, radius: float = 2.8) -> list[float]:
    """Return offsets across the axis that keep points apart, each at most ``room`` from the axis.

    Points of nearly the same position form a column, centered on the axis, that is compressed where it is
    higher than the room.
    """
    step = 2 * radius * 0.85
    columns: dict[int, list[int]] = {}
    for index, position in enumerate(positions):
        columns.setdefault(round(position / step), []).append(index)
    offsets = [0.0] * len(positions)
    for members in columns.values():
        used = min(step, 2 * room / max(len(members) - 1, 1))
        for rank, index in enumerate(members):
            offsets[index] = round((rank - (len(members) - 1) / 2) * used, 2)
    return offsets


def _decades(low: float, high: float, count: int) -> list[float]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    powers = [10.0**exponent for exponent in range(first, last + 1)]
    if len(powers) > count:
        return powers[:: math.ceil(len(powers) / count)]
    if len(powers) < 3:
        more = [factor * 10.0**e for e in range(first - 1, last + 1) for factor in (1, 2, 5)]
        return [value for value in more if low <= value <= high]
    return powers
