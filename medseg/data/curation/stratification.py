"""Distribute cases over the parts of a split so that each part gets its share of every label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence


def deal(names: Sequence[str], sizes: Sequence[int], held: Mapping[str, frozenset[str]]) -> list[list[str]]:
    """Distribute ``names`` over parts of ``sizes``, by iterative stratification.

    The label that the fewest remaining names hold is distributed first; each of its holders goes to the part
    that needs most of that label, among those to the part that needs most names; ties keep the order of the
    parts. Names without labels fill up the parts.

    Source: Sechidis et al. 2011, doi:10.1007/978-3-642-23808-6_10, with the parts' sizes kept exactly.
    """
    total = sum(sizes)
    counts = Counter(label for name in names for label in held[name])
    wanted = [{label: n * size / total for label, n in counts.items()} for size in sizes]
    room = list(sizes)
    parts: list[list[str]] = [[] for _ in sizes]
    left = list(names)
    while left:
        still = Counter(label for name in left for label in held[name])
        rarest = min(still, key=lambda label: (still[label], label)) if still else None
        for name in [n for n in left if rarest is None or rarest in held[n]]:
            open_parts = [i for i in range(len(sizes)) if room[i] > 0]
            goal = {i: (wanted[i].get(rarest, 0.0) if rarest else 0.0, room[i] / sizes[i]) for i in open_parts}
            best = max(open_parts, key=lambda i: (*goal[i], -i))
            parts[best].append(name)
            room[best] -= 1
            for label in held[name]:
                wanted[best][label] -= 1
            left.remove(name)
    return parts
