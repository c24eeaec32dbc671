"""Durations in settings and options: minutes as a number, or text with units."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

_MINUTES = {"s": 1 / 60, "sec": 1 / 60, "m": 1.0, "min": 1.0, "h": 60.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


def parse_minutes(value: str | float) -> float:
    """Return a duration in minutes.

    Args:
        value: a number of minutes, or text such as ``90s``, ``20min``, ``2h`` or ``1h 30min``.

    Raises:
        ValueError: if it is not a duration above 0.

    Example:
        >>> parse_minutes("90s"), parse_minutes("1h30min"), parse_minutes(20)
        (1.5, 90.0, 20.0)
    """
    text = str(value).strip().lower()
    parts = _PART.findall(text)
    minutes = 0.0
    if "".join(number + unit for number, unit in parts) == re.sub(r"\s+", "", text):
        units = [unit or "min" for _, unit in parts]
        if all(unit in _MINUTES for unit in units) and len(set(units)) == len(units):
            minutes = sum(
                float(number) * _MINUTES[unit] for (number, _), unit in zip(parts, units, strict=True)
            )
    if minutes <= 0:
        raise ValueError(f"expected a duration such as 90s, 20min or 2h, or a number of minutes; got {value!r}")
    return minutes


def _parse(value: Any) -> Any:
    return parse_minutes(value) if isinstance(value, str | int | float) else value


Minutes = Annotated[float, BeforeValidator(_parse), Field(gt=0)]
"""Type of a setting: minutes, as a number or as text with a unit."""
