"""Chunks of an image's output: their region, means, parts, and how they are put together."""

import numpy as np
import pytest
import torch

from medseg.inference.sliding_window.output_chunk import OutputChunk, assemble
from medseg.inference.sliding_window.prediction import chunk_probabilities


def test_region_of_whole_planes():
    chunk = OutputChunk.of_planes(torch.zeros(2, 4, 3, 5), start=7, axis=1)
    assert chunk.region == (slice(0, 4), slice(7, 10), slice(0, 5))
    assert (chunk.start, chunk.stop) == (7, 10)


def test_means_are_sums_divided_by_weights_and_zero_without_weight():
    sums, weights = torch.tensor([[2.0, 6.0, 0.0]]), torch.tensor([1.0, 4.0, 0.0])
    assert OutputChunk.of_planes(sums, 0, 0, weights).means.tolist() == [[2.0, 1.5, 0.0]]
    assert OutputChunk.of_planes(sums, 0, 0).means.tolist() == [[2.0, 6.0, 0.0]]


def test_planes_of_a_chunk_are_a_view():
    chunk = OutputChunk.of_planes(torch.arange(12).reshape(1, 3, 4), start=5, axis=0)
    part = chunk.planes(6, 8)
    assert part.region == (slice(6, 8), slice(0, 4))
    assert part.tensor.tolist() == [[[4, 5, 6, 7], [8, 9, 10, 11]]]
    assert part.tensor.untyped_storage().data_ptr() == chunk.tensor.untyped_storage().data_ptr()


def test_strips_are_assembled_at_their_regions():
    left = OutputChunk((slice(0, 2), slice(0, 1)), 0, torch.tensor([[[1.0], [3.0]]]))
    right = OutputChunk((slice(0, 2), slice(1, 3)), 0, torch.tensor([[[2.0, 5.0], [4.0, 6.0]]]))
    image = assemble([right, left], (2, 3), lambda chunk: chunk.tensor.to(torch.uint8))
    assert image.dtype == np.uint8
    assert image.tolist() == [[[1, 2, 5], [3, 4, 6]]]
    with pytest.raises(ValueError, match="no chunks"):
        assemble([], (2, 3))


@pytest.mark.parametrize(("activation", "skipped"), [("softmax", [1.0, 0.0]), ("sigmoid", [0.0, 0.0])])
def test_skipped_voxels_are_background(activation, skipped):
    chunk = OutputChunk.of_planes(torch.zeros(2, 2), 0, 0, torch.tensor([1.0, 0.0]))
    # logits 0 and 0 with weight: one half each
    assert chunk_probabilities(chunk, activation).tensor.T.tolist() == [[0.5, 0.5], skipped]
