"""How p values and shares of a comparison are written."""

from __future__ import annotations

import math

from markupsafe import Markup

from medseg.report.html import number
from medseg.report.pages.scored_cases import as_float

FEWEST_NEW = 3
"""Fewest cases from which the probability of being better on a new case is estimated."""
_SMALLEST_P = 0.001


def p_value(value: object) -> Markup:
    """Return a p value: ``p = 0.012`` or ``p < 0.001``."""
    exact = as_float(value)
    if math.isnan(exact):
        return Markup("p not defined")
    if exact < _SMALLEST_P:
        return Markup('p <data value="{}">&lt; {}</data>').format(f"{exact:.9g}", _SMALLEST_P)
    return Markup("p = {}").format(number(exact, 3))


def percent(share: float) -> Markup:
    """Return a share as percent."""
    if math.isnan(share):
        return number(share)
    return Markup('<data value="{}">{}%</data>').format(f"{share:.9g}", f"{100 * share:.0f}")
