"""Ensembles: the mean of several models' chunks on one grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from medseg.inference.sliding_window.output_chunk import OutputChunk


def average_chunks(members: Sequence[Iterator[OutputChunk]]) -> Iterator[OutputChunk]:
    """Yield the mean of several models' chunks of whole planes, as far as all of them have come.

    Chunks of different models may end at different planes.

    Raises:
        ValueError: a model has fewer planes than another, or planes across another axis.
    """
    if len(members) == 1:
        yield from members[0]
        return
    heads = [next(member, None) for member in members]
    while any(head is not None for head in heads):
        if any(head is None for head in heads):
            raise ValueError("one model's chunks end before another's")
        present = [head for head in heads if head is not None]
        if len({head.axis for head in present}) > 1:
            raise ValueError("models' chunks follow one another along different axes")
        start, stop = present[0].start, min(head.stop for head in present)
        first, *others = [head.planes(start, stop) for head in present]
        total = first.tensor.clone()
        for other in others:
            total += other.tensor.to(total.device)
        yield first.with_tensor(total.div_(len(present)))
        heads = [
            next(member, None) if head.stop == stop else head.planes(stop, head.stop)
            for head, member in zip(present, members, strict=True)
        ]
