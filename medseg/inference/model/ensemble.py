"""Scores of several models on one grid, averaged as far as all of them have come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from medseg.inference.sliding_window.streaming_resample import Slab


def mean_slabs(members: Sequence[Iterator[Slab]]) -> Iterator[Slab]:
    """The mean of several models' scores, slab by slab, in the order of their common axis.

    The models' slabs may end at different planes. Raises: ValueError if one has fewer planes than another,
    or planes across another axis.
    """
    if len(members) == 1:
        yield from members[0]
        return
    heads = [next(member, None) for member in members]
    while any(head is not None for head in heads):
        if any(head is None for head in heads):
            raise ValueError("one model's scores end before another's")
        at_hand = [head for head in heads if head is not None]
        if len({head.axis for head in at_hand}) > 1:
            raise ValueError("models' scores come along different axes")
        axis, start, stop = at_hand[0].axis, at_hand[0].start, min(head.stop for head in at_hand)
        parts = [head.scores.narrow(1 + axis, 0, stop - start) for head in at_hand]
        total = parts[0].clone()
        for part in parts[1:]:
            total += part.to(total.device)
        yield Slab(start, axis, total.div_(len(parts)))
        heads = [_rest(head, stop, member) for head, member in zip(at_hand, members, strict=True)]


def _rest(head: Slab, stop: int, member: Iterator[Slab]) -> Slab | None:
    """What is left of a slab from ``stop`` on, or the model's next one."""
    if head.stop == stop:
        return next(member, None)
    rest = head.scores.narrow(1 + head.axis, stop - head.start, head.stop - stop)
    return Slab(stop, head.axis, rest)
