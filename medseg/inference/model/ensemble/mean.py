"""Ensembles: the mean of several models' chunks on one grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from medseg.inference.sliding_window.output_chunk import OutputChunk


def average_chunks(members: Sequence[Iterator[OutputChunk]]) -> Iterator[OutputChunk]:
    """Average the output chunks of several models.

    Chunks of different models may end at different planes; each yielded chunk covers the planes that all
    models have computed.

    Args:
        members: the chunks of each model, in order along the streaming axis.

    Yields:
        Mean of the logits or probabilities, chunk by chunk.

    Raises:
        ValueError: a model has fewer planes than another, or another streaming axis.
    """
    if len(members) == 1:
        yield from members[0]
        return
    heads = [next(member, None) for member in members]
    while any(head is not None for head in heads):
        if any(head is None for head in heads):
            raise ValueError("the chunks of one model end before those of another")
        present = [head for head in heads if head is not None]
        if len({head.axis for head in present}) > 1:
            raise ValueError("the chunks of the models have different streaming axes")
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
