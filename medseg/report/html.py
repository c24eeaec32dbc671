"""HTML building blocks of the reports: escaped text, numbers that can be read back, lists, figures.

Everything is :class:`markupsafe.Markup`: plain text that is joined with it is escaped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from markupsafe import Markup, escape

Content = Markup | str


def join(parts: Iterable[Content], separator: Content = "") -> Markup:
    """Join parts; plain text is escaped."""
    return Markup(escape(separator)).join(parts)


def tag(name: str, *content: Content, **attributes: Any) -> Markup:
    """Return an element.

    Args:
        name: of the element.
        content: of the element; plain text is escaped.
        attributes: without those that are None or False; ``class_`` is ``class``, and other underscores become
            hyphens. True gives an attribute without a value.

    Example:
        >>> str(tag("a", "x < y", href="#top", hidden=True))
        '<a href="#top" hidden>x &lt; y</a>'
    """
    texts: list[Markup] = []
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is True:
            texts.append(Markup(f" {key}"))
        elif value is not None and value is not False:
            texts.append(Markup(' {}="{}"').format(Markup(key), value))
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), join(texts), join(content))


def number(value: Any, digits: int = 3, *, unit: str = "", signed: bool = False) -> Markup:
    """Return a number as ``<data>``, which holds the exact value and shows a rounded one.

    nan is shown as a dash and inf as ∞; both are described for screen readers. Every figure of a report is
    written by this function, so that a test can read it back and find it in the tables.

    Args:
        value: number or its text (``"nan"``, ``"inf"``); None counts as nan.
        digits: decimals; integers are shown without.
        unit: shown after the number.
        signed: whether a positive number has a plus sign.

    Example:
        >>> str(number(0.85342)), str(number(12))
        ('<data value="0.85342">0.853</data>', '<data value="12">12</data>')
    """
    exact = math.nan if value is None else float(value)
    shown = show(value, digits, signed=signed)
    if math.isnan(exact):
        return Markup('<data value="nan" class="none"><span aria-hidden="true">–</span>{}</data>').format(
            tag("span", "not defined", class_="sr")
        )
    raw = value if isinstance(value, int) and not isinstance(value, bool) else f"{exact:.9g}"
    if math.isinf(exact):
        raw, shown = f"{exact}", "∞" if exact > 0 else "−∞"
    return Markup('<data value="{}">{}</data>{}').format(raw, shown, f" {unit}" if unit else "")


def show(value: Any, digits: int = 3, *, signed: bool = False) -> str:
    """Return a number as text: integers with thousands separators, others with ``digits`` decimals.

    Example:
        >>> show(12345), show(0.5, 2), show(-0.25, 2)
        ('12,345', '0.50', '−0.25')
    """
    if value is None:
        return "–"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:{'+' if signed else ''},}".replace("-", "−")
    exact = float(value)
    if not math.isfinite(exact):
        return "–" if math.isnan(exact) else "∞" if exact > 0 else "−∞"
    text = f"{exact:{'+' if signed else ''},.{digits}f}"
    return text.replace("-", "−") if float(text.replace(",", "")) else f"{0:.{digits}f}"


def compact(value: Any, figures: int = 4) -> Markup:
    """Return a number of any size as ``<data>`` with about ``figures`` significant digits.

    Example:
        >>> str(compact(1234.567)), str(compact(0.01234))
        ('<data value="1234.567">1,235</data>', '<data value="0.01234">0.01234</data>')
    """
    exact = math.nan if value is None else float(value)
    if not math.isfinite(exact) or exact.is_integer():
        return number(value, 0)
    return number(value, max(0, min(8, figures - 1 - math.floor(math.log10(abs(exact))))))


def interval(low: Any, high: Any, digits: int = 3, *, signed: bool = False) -> Markup:
    """Return both ends of an interval: ``0.80 to 0.88``; a dash if neither is defined."""
    if all(one is None or math.isnan(float(one)) for one in (low, high)):
        return number(math.nan)
    return Markup("{} to {}").format(number(low, digits, signed=signed), number(high, digits, signed=signed))


def breakable(content: Content) -> Markup:
    """Return content in which long names may be broken after an underscore or a slash.

    Args:
        content: text, or HTML; only its text changes.

    Example:
        >>> str(breakable("left_hippocampus"))
        'left_<wbr>hippocampus'
    """
    text = str(escape(content))
    return Markup(re.sub(r"<[^>]*>|(?<=\w)[_/]+(?=\w)", lambda found: _with_break(found[0]), text))


def _with_break(found: str) -> str:
    return found if found.startswith("<") else f"{found}<wbr>"


def paragraph(*parts: Content, class_: str | None = None) -> Markup:
    """Return a paragraph."""
    return tag("p", *parts, class_=class_)


def bullets(items: Iterable[Content]) -> Markup:
    """Return an unordered list."""
    return tag("ul", join(tag("li", item) for item in items))


def pairs(items: Mapping[str, Content]) -> Markup:
    """Return a list of terms and their values."""
    rows = (tag("div", tag("dt", key), tag("dd", value)) for key, value in items.items())
    return tag("dl", join(rows))


def figure(picture: Markup, caption: Content) -> Markup:
    """Return a plot or picture with its caption."""
    return tag("figure", picture, tag("figcaption", caption))


def grid(*parts: Content) -> Markup:
    """Arrange parts in as many columns as the screen has room for."""
    return tag("div", *parts, class_="grid")


def folded(summary: Content, *content: Content, open_: bool = False) -> Markup:
    """Return content that opens when its summary is clicked."""
    return tag("details", tag("summary", summary), *content, open=open_)


def picture(source: str, alt: str) -> Markup:
    """Return an image from a data URI."""
    return Markup('<img src="{}" alt="{}" decoding="async">').format(source, alt)


def loaded_on_demand(content: Markup) -> Markup:
    """Return content of a folded part whose pictures the page's script loads when the part is opened."""
    return Markup(content.replace(Markup('<img src="data:'), Markup('<img data-src="data:')))


def plural(count: int, word: str, many: str | None = None) -> Markup:
    """Return a count with its word: ``1 case``, ``2 cases``."""
    return Markup("{} {}").format(number(count), word if count == 1 else many or f"{word}s")


def enumerate_words(items: Iterable[Content], last: str = "and", most: int | None = None) -> Markup:
    """Join items as in a sentence: ``a, b and c``; of more than ``most``, the first: ``a, b and 7 more``."""
    parts = [Markup(escape(item)) for item in items]
    if most is not None and len(parts) > most:
        parts = [*parts[:most], Markup(f"{len(parts) - most} more")]
    if len(parts) < 2:
        return join(parts)
    return Markup("{} {} {}").format(join(parts[:-1], ", "), last, parts[-1])


def anchor(prefix: str, text: str) -> str:
    """Return an id for an element: letters, digits and hyphens, distinct for distinct texts.

    Example:
        >>> anchor("case", "scan_01"), anchor("case", "a/b")
        ('case-scan_01', 'case-a-2f-b')
    """
    return f"{prefix}-" + re.sub(r"[^A-Za-z0-9_.-]", lambda found: f"-{ord(found.group()):x}-", text)
