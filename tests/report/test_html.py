import math

import pytest
from markupsafe import Markup

from medseg.report.html import (
    anchor,
    breakable,
    bullets,
    compact,
    enumerate_words,
    number,
    pairs,
    plural,
    show,
    tag,
)


def test_text_is_escaped_and_markup_is_not():
    assert tag("p", "a < b", Markup("<b>c</b>"), class_="x", title='"') == (
        '<p class="x" title="&#34;">a &lt; b<b>c</b></p>'
    )
    assert bullets(["<script>"]) == "<ul><li>&lt;script&gt;</li></ul>"
    assert pairs({"a": "&"}) == "<dl><div><dt>a</dt><dd>&amp;</dd></div></dl>"


def test_long_names_may_be_broken_at_underscores_and_slashes():
    assert breakable("left_gyrus/a b") == "left_<wbr>gyrus/<wbr>a b"
    link = Markup('<a href="#a_b/c">x_y</a>')
    assert breakable(link) == '<a href="#a_b/c">x_<wbr>y</a>'
    assert breakable("a_<b_c>") == "a_&lt;b_<wbr>c&gt;"


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        (0.8567, 3, "0.857"),
        (12, 3, "12"),
        (1234, 0, "1,234"),
        (-0.0004, 2, "0.00"),  # not −0.00
        (-2.5, 1, "−2.5"),
        (math.inf, 2, "∞"),
        (math.nan, 2, "–"),
        (None, 2, "–"),
    ],
)
def test_shown_numbers(value, digits, shown):
    assert show(value, digits) == shown


def test_numbers_hold_their_exact_value():
    assert number(0.123456789012, 2) == '<data value="0.123456789">0.12</data>'
    assert number("inf") == '<data value="inf">∞</data>'
    assert 'value="nan"' in number("nan")
    assert "not defined" in number(None)  # for screen readers
    assert number(2.5, 1, unit="mm") == '<data value="2.5">2.5</data> mm'


def test_numbers_of_any_size_have_four_digits():
    assert compact(12345.6) == '<data value="12345.6">12,346</data>'
    assert compact(0.000123456) == '<data value="0.000123456">0.0001235</data>'
    assert compact(0.0) == '<data value="0">0</data>'


def test_words():
    assert enumerate_words(["a"]) == "a"
    assert enumerate_words(["a", "b", "c"]) == "a, b and c"
    assert enumerate_words(["a", "b", "<c>", "d"], most=2) == "a, b and 2 more"
    assert enumerate_words(["a", "b"], most=2) == "a and b"
    assert plural(1, "case").endswith("case")
    assert plural(2, "case").endswith("cases")


def test_anchors_of_different_names_differ():
    names = ["a b", "a-b", "a/b", "ä", "a_b"]
    assert len({anchor("case", name) for name in names}) == len(names)
