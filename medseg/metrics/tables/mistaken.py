"""Labels that a prediction has under another name: exchanged values, or structures counted from another end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ABOVE_CHANCE = 1.5
"""How much larger the share of the other label must be than in the remaining labels."""


def mistaken_labels(dataset: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the labels of which most pixels are predicted as one other label, with that label.

    The other label must also be predicted there far more often than in the remaining labels: a network that
    has hardly learned predicts one label everywhere, and exchanges no names.

    Args:
        dataset: ``dataset`` of a summary, with ``classes`` and ``confusion``; the first class is the
            background.

    Example:
        >>> mistaken_labels({"classes": ["background", "left", "right"],
        ...                  "confusion": [[90, 0, 0], [2, 1, 9], [0, 8, 2]]})
        [('left', 'right'), ('right', 'left')]
    """
    names, matrix = dataset.get("classes") or (), dataset.get("confusion") or ()
    found: list[tuple[str, str]] = []
    for index, (name, row) in enumerate(zip(names, matrix, strict=False)):
        largest = max(range(len(names)), key=lambda other: row[other])
        if 0 in (index, largest) or largest == index or 2 * row[largest] <= sum(row):
            continue
        others = [other for number, other in enumerate(matrix) if number not in (0, index)]
        chance = sum(other[largest] for other in others) / max(1, sum(map(sum, others)))
        if row[largest] / sum(row) >= _ABOVE_CHANCE * chance:
            found.append((name, names[largest]))
    return found


def describe_mistaken(pairs: list[tuple[str, str]], most: int = 5) -> str:
    """Return a sentence about labels that are predicted as others; empty without any.

    Example:
        >>> describe_mistaken([("left", "right"), ("right", "left")])
        'Most of left is predicted as right, and the other way round: are names or values exchanged?'
        >>> describe_mistaken([("L1", "T12"), ("L2", "L1")])
        'Most of L1 is predicted as T12, and most of L2 as L1: are names or values shifted?'
    """
    if not pairs:
        return ""
    mutual = [(a, b) for a, b in pairs if (b, a) in pairs and a < b]
    single = [(a, b) for a, b in pairs if (b, a) not in pairs]
    parts = [f"{a} is predicted as {b}, and the other way round" for a, b in mutual[:most]]
    parts += [f"{a} is predicted as {b}" for a, b in single[: most - len(parts)]]
    words = [parts[0], *(part.replace(" is predicted as", " as", 1) for part in parts[1:])]
    rest = len(mutual) + len(single) - len(parts)
    more = f", and so on ({rest} more)" if rest else ""
    joined = ", and most of ".join(words)
    return f"Most of {joined}{more}: are names or values {'shifted' if single else 'exchanged'}?"
