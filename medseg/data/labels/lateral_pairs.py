"""Pairs of labels of the left and the right side, which swap in mirror images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations


@dataclass(frozen=True)
class LateralPairs:
    """Labels of the left and the right side.

    Attributes:
        pairs: (left, right) names of labels.

    Example:
        >>> LateralPairs((("left_lung", "right_lung"),)).permutation(["air", "left_lung", "right_lung"])
        (0, 2, 1)
    """

    pairs: tuple[tuple[str, str], ...]

    def invalid_names(self, names: Iterable[str]) -> list[str]:
        """Return names in pairs that are not among ``names``, else those that appear twice."""
        paired = [name for pair in self.pairs for name in pair]
        unknown = sorted(set(paired) - set(names))
        return unknown or sorted({name for name in paired if paired.count(name) > 1})

    def counterpart(self, name: str) -> str:
        """Return the label of the other side; the label itself if it has none."""
        return next((b if name == a else a for a, b in self.pairs if name in (a, b)), name)

    def permutation(self, names: Sequence[str]) -> tuple[int, ...]:
        """Return for each label the index of its counterpart; empty without pairs."""
        return tuple(names.index(self.counterpart(name)) for name in names) if self.pairs else ()

    def region_permutation(self, regions: Mapping[str, Sequence[str]]) -> tuple[int, ...]:
        """Return for each region the index of the region of the counterparts of its labels.

        Raises:
            ValueError: a region has no counterpart.
        """
        members = [frozenset(labels) for labels in regions.values()]
        mirrored = [frozenset(self.counterpart(label) for label in labels) for labels in members]
        if any(labels not in members for labels in mirrored):
            raise ValueError("pairs: a region has no counterpart on the other side")
        return tuple(members.index(labels) for labels in mirrored)

    def of_combinations(self, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
        """Return the pairs of combinations (``a+b``) of overlapping labels that swap."""
        pairs: list[tuple[str, str]] = []
        for size in range(1, len(names) + 1):
            for members in combinations(range(len(names)), size):
                mirrored = sorted(names.index(self.counterpart(names[i])) for i in members)
                if list(members) < mirrored:
                    pairs.append(("+".join(names[i] for i in members), "+".join(names[i] for i in mirrored)))
        return tuple(pairs)
