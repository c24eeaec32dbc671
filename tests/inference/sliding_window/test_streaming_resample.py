"""Resampling a few planes at a time equals resampling everything."""

import pytest
import torch
import torch.nn.functional as F

from medseg.inference.sliding_window.output_chunk import OutputChunk
from medseg.inference.sliding_window.prediction import decide, most_likely
from medseg.inference.sliding_window.streaming_resample import resample_chunks


@pytest.mark.parametrize("step", [1, 2, 5, 100])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("target", [(7, 5, 6), (13, 3, 6), (3, 11, 17), (1, 1, 1), (40, 8, 8)])
@pytest.mark.parametrize("source", [(7, 5, 6), (1, 4, 3), (12, 9, 8)])
def test_planes_equal_the_whole(source, target, axis, step):
    scores = torch.randn(3, *source, generator=torch.Generator().manual_seed(0))
    whole = F.interpolate(scores[None], size=target, mode="trilinear", align_corners=False)[0]
    starts = range(0, source[axis], step)
    chunks = [
        OutputChunk.of_planes(scores.narrow(1 + axis, i, min(step, source[axis] - i)), i, axis) for i in starts
    ]
    found = torch.full((3, *target), torch.nan)
    for one in resample_chunks(chunks, source, target, chunk_bytes=500):
        found.narrow(1 + axis, one.start, one.stop - one.start).copy_(one.tensor)
    torch.testing.assert_close(found, whole, atol=5e-6, rtol=0)


def test_pictures_are_supported():
    scores = torch.randn(2, 9, 7, generator=torch.Generator().manual_seed(0))
    whole = F.interpolate(scores[None], size=(20, 15), mode="bilinear", align_corners=False)[0]
    chunks = [OutputChunk.of_planes(scores[:, i : i + 4], i, 0) for i in (0, 4, 8)]
    found = torch.cat([one.tensor for one in resample_chunks(chunks, (9, 7), (20, 15))], dim=1)
    torch.testing.assert_close(found, whole, atol=5e-6, rtol=0)


def test_no_piece_is_larger_than_requested():
    scores = torch.zeros(4, 10, 8, 8)
    pieces = list(
        resample_chunks(
            [OutputChunk.of_planes(scores, 0, 0)], (10, 8, 8), (100, 16, 16), chunk_bytes=3 * 4 * 4 * 256
        )
    )
    assert {one.tensor.shape[1] for one in pieces[:-1]} == {3}


@pytest.mark.parametrize("classes", [1, 2, 5, 300])
def test_the_most_likely_class_is_argmax_the_first_of_several(classes):
    scores = torch.randint(0, 4, (classes, 6, 5, 7), generator=torch.Generator().manual_seed(0)).float()
    expected = scores.argmax(dim=0)
    last = scores.movedim(0, -1).contiguous().movedim(-1, 0)
    for one in (scores, last):
        found = most_likely(one)
        assert torch.equal(found.long(), expected)
        assert found.dtype == (torch.uint8 if classes <= 256 else torch.int16)
    assert decide(scores, "sigmoid", 1.5).tolist() == (scores > 1.5).tolist()
