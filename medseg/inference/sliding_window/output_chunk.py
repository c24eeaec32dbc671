"""Part of an image's output: the box it covers and the values there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from medseg.geometry import Array


@dataclass(frozen=True)
class OutputChunk:
    """Values of a box of an image, one of a sequence along an axis that covers the image once.

    Chunks are whole planes across ``axis``, or strips of such planes. The tensors may be views of an
    accumulator: use or copy them before the next chunk is requested.

    Attributes:
        region: the box in the image, one slice per spatial axis.
        axis: the spatial axis along which chunks follow one another.
        tensor: (N, *s), s the region's shape: logits, probabilities or labels; weighted sums of logits where
            an accumulator made it. Such sums have the sign and the order of the mean logits.
        weights: (*s) sums of weights, 0 where every window was skipped; None if ``tensor`` holds no sums, or
            if the means are not needed.

    Example:
        >>> chunk = OutputChunk.of_planes(torch.ones(2, 3, 4), start=5, axis=0)
        >>> chunk.region, chunk.stop
        ((slice(5, 8, None), slice(0, 4, None)), 8)
    """

    region: tuple[slice, ...]
    axis: int
    tensor: torch.Tensor
    weights: torch.Tensor | None = None

    @classmethod
    def of_planes(
        cls, tensor: torch.Tensor, start: int, axis: int, weights: torch.Tensor | None = None
    ) -> OutputChunk:
        """Return whole planes (N, *s), the first of which is plane ``start`` across ``axis``."""
        shape = tensor.shape[1:]
        region = [slice(0, length) for length in shape]
        region[axis] = slice(start, start + shape[axis])
        return cls(tuple(region), axis, tensor, weights)

    @property
    def start(self) -> int:
        """First plane along ``axis``."""
        return self.region[self.axis].start

    @property
    def stop(self) -> int:
        """Plane after the last one along ``axis``."""
        return self.region[self.axis].stop

    @property
    def means(self) -> torch.Tensor:
        """(N, *s) weighted means; 0 where every window was skipped."""
        if self.weights is None:
            return self.tensor
        return self.tensor / self.weights.clamp(min=torch.finfo(torch.float32).tiny)

    def with_tensor(self, tensor: torch.Tensor) -> OutputChunk:
        """Return other values (N, *s) of the same region."""
        return OutputChunk(self.region, self.axis, tensor)

    def channels(self, start: int, stop: int | None = None) -> OutputChunk:
        """Return channels [start, stop) with the same weights, as a view."""
        return replace(self, tensor=self.tensor[start:stop])

    def planes(self, start: int, stop: int) -> OutputChunk:
        """Return planes [start, stop) along ``axis`` of a chunk without weights, as a view."""
        region = list(self.region)
        region[self.axis] = slice(start, stop)
        part = self.tensor.narrow(1 + self.axis, start - self.start, stop - start)
        return OutputChunk(tuple(region), self.axis, part)

    def write_to(self, image: Array) -> None:
        """Write the values into a whole image (N, *S) on the CPU."""
        image[(slice(None), *self.region)] = self.tensor.cpu().numpy()


class SegmentedChunk(NamedTuple):
    """Labels of a box of an image, and their probabilities if requested.

    Attributes:
        labels: classes (1, *s) or regions (R, *s) bool.
        probabilities: (K, *s); None if not requested.
    """

    labels: OutputChunk
    probabilities: OutputChunk | None = None


def assemble(
    chunks: Iterable[OutputChunk],
    shape: tuple[int, ...],
    transform: Callable[[OutputChunk], torch.Tensor] = lambda chunk: chunk.tensor,
) -> Array:
    """Put the chunks of an image (*S) together on the CPU.

    Args:
        chunks: cover the image once.
        shape: of the image.
        transform: applied to each chunk first; the chunk's own tensor by default.

    Returns:
        (N, *S), of the transformed tensors' type.

    Raises:
        ValueError: there are no chunks.

    Example:
        >>> halves = [OutputChunk.of_planes(torch.full((1, 1, 2), k), start=k, axis=0) for k in range(2)]
        >>> assemble(halves, (2, 2)).tolist()
        [[[0, 0], [1, 1]]]
    """
    image: Array | None = None
    for chunk in chunks:
        done = chunk.with_tensor(transform(chunk).cpu())
        if image is None:
            image = done.tensor.new_zeros((len(done.tensor), *shape)).numpy()
        done.write_to(image)
    if image is None:
        raise ValueError("an image cannot be assembled from no chunks")
    return image


def label_chunks(chunks: Iterable[SegmentedChunk], probabilities: Array | None = None) -> Iterator[OutputChunk]:
    """Yield the labels of chunks; write their probabilities into ``probabilities`` (K, *S) on the way."""
    for chunk in chunks:
        if probabilities is not None:
            assert chunk.probabilities is not None
            chunk.probabilities.write_to(probabilities)
        yield chunk.labels
