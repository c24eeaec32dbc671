"""Distribute cases over the parts of a split so that each part gets its share of every label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence


def stratified_parts(
    names: Sequence[str], sizes: Sequence[int], labels: Mapping[str, frozenset[str]]
) -> list[list[str]]:
    """Distribute names over parts of given sizes by iterative stratification.

    The label that the fewest remaining names have is distributed first. Each name with this label goes to the
    part that needs the label most; among equals, to the part with the largest share of free places, then to
    the first. Names without labels fill the remaining places.

    Source: Sechidis et al. 2011, doi:10.1007/978-3-642-23808-6_10. The sizes of the parts are kept exactly.

    Args:
        names: cases, or groups of cases that stay together.
        sizes: number of names in each part; their sum is the number of names.
        labels: name → its labels.

    Returns:
        The names of each part.

    Example:
        >>> labels = {"a": frozenset({"tumor"}), "b": frozenset(), "c": frozenset({"tumor"}), "d": frozenset()}
        >>> stratified_parts(["a", "b", "c", "d"], [2, 2], labels)
        [['a', 'b'], ['c', 'd']]
    """
    total = sum(sizes)
    counts = Counter(label for name in names for label in labels[name])
    wanted = [{label: n * size / total for label, n in counts.items()} for size in sizes]
    room = list(sizes)
    parts: list[list[str]] = [[] for _ in sizes]
    left = list(names)
    while left:
        remaining = Counter(label for name in left for label in labels[name])
        rarest = min(remaining, key=lambda label: (remaining[label], label)) if remaining else None
        for name in [n for n in left if rarest is None or rarest in labels[n]]:
            open_parts = [i for i in range(len(sizes)) if room[i] > 0]
            goal = {i: (wanted[i].get(rarest, 0.0) if rarest else 0.0, room[i] / sizes[i]) for i in open_parts}
            best = max(open_parts, key=lambda i: (*goal[i], -i))
            parts[best].append(name)
            room[best] -= 1
            for label in labels[name]:
                wanted[best][label] -= 1
            left.remove(name)
    return parts
