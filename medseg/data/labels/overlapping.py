"""Schema of labels that may overlap."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from medseg.data.labels.lateral_pairs import LateralPairs
from medseg.data.labels.schema import LabelSchema, Values
from medseg.errors import ConfigError

MAX_OVERLAPPING = 8
"""Maximum number of labels that may overlap: each of their combinations is a value of its own."""


def overlapping_schema(
    names: tuple[str, ...], *, background: str = "background", pairs: Sequence[tuple[str, str]] = ()
) -> LabelSchema:
    """Return the schema of labels that may overlap.

    Each label is a region, and each combination of labels is a value: the sum of the labels' powers of two.

    Args:
        names: names of the labels.
        background: name of what lies in none of them.
        pairs: labels of the left and the right side; their combinations swap, too.

    Raises:
        ConfigError: there are more than ``MAX_OVERLAPPING`` labels, or a pair names an unknown label.

    Example:
        >>> overlapping_schema(("liver", "lesion")).names
        {'background': (0,), 'liver': (1,), 'lesion': (2,), 'liver+lesion': (3,)}
    """
    if not 1 <= len(names) <= MAX_OVERLAPPING:
        raise ConfigError(
            f"{len(names)} labels overlap ({', '.join(names)}); at most {MAX_OVERLAPPING} can",
            hint="Leave out data.labels.overlapping, or name fewer labels under data.labels.names.",
        )
    lateral = LateralPairs(tuple(pairs))
    if lateral.invalid_names(names):
        raise ConfigError(
            f"data.labels.pairs: {lateral.invalid_names(names)} are unknown or appear twice; "
            f"known: {list(names)}"
        )
    table: dict[str, Values] = {background: (0,)}
    regions: dict[str, tuple[str, ...]] = dict.fromkeys(names, ())
    for size in range(1, len(names) + 1):
        for members in combinations(names, size):
            joined = "+".join(members)
            table[joined] = (sum(1 << names.index(name) for name in members),)
            for name in members:
                regions[name] += (joined,)
    return LabelSchema(names=table, regions=regions, pairs=lateral.of_combinations(names))
