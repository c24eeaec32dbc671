"""Streaming windows: MONAI's logits on the same windows, each plane once, in a ring one window deep."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers.utils import sliding_window_inference

from medseg.inference.sliding_window.accumulator import AccumulatorOptions
from medseg.inference.sliding_window.streaming import make_accumulator
from medseg.inference.sliding_window.streaming import stream_windows as stream_with
from medseg.inference.sliding_window.strip_accumulator import StripAccumulator, plan_rows
from medseg.inference.sliding_window.window_plan import WindowPlan, clipped_starts, even_starts, window_weights


def stream_windows(read, plan, network, weight, *, batch_size=1, keep=None, whole_planes=True, **options):
    accumulator = make_accumulator(plan, AccumulatorOptions(weight, **options), whole_planes=whole_planes)
    return stream_with(read, plan, network, accumulator, batch_size=batch_size, keep=keep)


def reader(image):
    return lambda box: image[(slice(None), *box)].clone()


def streamed(image, size, predict, *, overlap=0.5, batch_size=1, weight=None, keep=None):
    """(K, *S) mean scores and the planes' ranges."""
    plan = WindowPlan(tuple(image.shape[1:]), size, overlap)
    weight = window_weights(size) if weight is None else weight
    whole, ranges = None, []
    for one in stream_windows(reader(image), plan, predict, weight, batch_size=batch_size, keep=keep):
        if whole is None:
            whole = torch.full((len(one.tensor), *image.shape[1:]), torch.nan)
        length = one.weights.shape[one.axis]
        ranges.append((one.start, one.start + length))
        whole.narrow(1 + one.axis, one.start, length).copy_(one.means)
    return whole, ranges


def network(dims, classes=3, channels=2, seed=0):
    """A network whose scores depend on where in its window a voxel lies."""
    kernel = torch.randn(classes, channels, *[3] * dims, generator=torch.Generator().manual_seed(seed))
    conv = F.conv2d if dims == 2 else F.conv3d
    return lambda windows: conv(windows, kernel, padding=1)


@pytest.mark.parametrize("last", [False, True], ids=["classes first", "classes last"])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75])
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((20, 31, 17), (8, 12, 8)),
        ((5, 31, 40), (8, 12, 8)),  # smaller than a window along one axis
        ((3, 3, 4), (8, 8, 8)),
        ((8, 8, 8), (8, 8, 8)),
        ((12, 12, 50), (8, 8, 8)),  # streamed along the last axis
        ((40, 33), (16, 12)),
        ((5, 100), (7, 9)),
    ],
)
def test_scores_equal_monais(shape, size, overlap, last):
    image = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    predict = network(len(shape))
    layout = torch.channels_last if len(shape) == 2 else torch.channels_last_3d
    ours = (lambda w: predict(w).contiguous(memory_format=layout)) if last else predict
    found, ranges = streamed(image, size, ours, overlap=overlap, batch_size=3)
    expected = sliding_window_inference(image[None], size, 3, predict, overlap=overlap, mode="gaussian")[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert ranges[0][0] == 0
    assert all(a[1] == b[0] for a, b in itertools.pairwise(ranges))


@pytest.mark.slow
@given(
    st.lists(st.integers(1, 30), min_size=2, max_size=3),
    st.integers(1, 9),
    st.floats(0, 0.9),
    st.integers(1, 4),
)
@settings(max_examples=60, deadline=None)
def test_a_network_that_copies_gives_the_image_back(shape, edge, overlap, batch):
    image = torch.randn(1, *shape, generator=torch.Generator().manual_seed(2))
    found, _ = streamed(image, (edge,) * len(shape), lambda w: w, overlap=overlap, batch_size=batch)
    torch.testing.assert_close(found, image, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("last", [False, True], ids=["classes first", "classes last"])
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(
    ("shape", "size", "overlap"),
    [
        ((38, 38, 17), (8, 8, 8), 0.25),
        ((40, 40, 17), (8, 8, 8), 0.25),  # the last two rows overlap by six planes
        ((40, 33, 17), (8, 12, 8), 0.0),
        ((45, 50, 9), (8, 8, 12), 0.5),  # padded along the last axis
        ((40, 76, 5), (8, 12, 8), 0.25),  # streamed along the second one
        ((30, 29, 64), (8, 8, 8), 0.3),
    ],
)
def test_strips_give_the_same(shape, size, overlap, skip, last):
    image = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    predict = network(3)
    ours = (lambda w: predict(w).contiguous(memory_format=torch.channels_last_3d)) if last else predict
    plan = WindowPlan(shape, size, overlap)
    assert StripAccumulator.saves_memory(plan)
    keep = (lambda box: box[0].start % 4 == 0 and box[1].start > 7) if skip else None
    wholes, most = [], []
    for whole_planes in (True, False):
        whole = torch.full((4, *shape), torch.nan)
        kept = 0
        for one in stream_windows(
            reader(image), plan, ours, window_weights(size), batch_size=2, keep=keep, whole_planes=whole_planes
        ):
            both = torch.cat([one.tensor, one.weights[None]])
            box = (slice(None), *one.region)
            assert whole[box].isnan().all()  # each voxel comes once
            whole[box] = both
            kept = one.tensor.untyped_storage().nbytes()
            complete = [part == slice(0, n) for part, n in zip(one.region, shape, strict=True)]
            assert (sum(complete) == len(shape) - 1) == whole_planes
        wholes.append(whole)
        most.append(kept)
    assert not wholes[0].isnan().any()
    torch.testing.assert_close(*wholes, atol=1e-6, rtol=1e-5)
    rows = [row.starts for row in plan_rows(plan)]
    same = rows[-1][0] if len(rows[-1]) > 1 else shape[plan.axis]
    assert torch.equal(*(whole.narrow(1 + plan.axis, 0, same) for whole in wholes))
    assert most[1] < most[0]


def test_strips_only_where_they_save():
    assert StripAccumulator.saves_memory(WindowPlan((256, 256, 256), (64, 64, 64), 0.5))
    assert not StripAccumulator.saves_memory(WindowPlan((96, 96, 96), (48, 48, 48), 0.75))
    assert not StripAccumulator.saves_memory(WindowPlan((256, 256), (64, 64), 0.25))
    assert not StripAccumulator.saves_memory(WindowPlan((64, 64, 64), (64, 64, 64), 0.25))


@pytest.mark.parametrize("whole_planes", [True, False])
def test_sums_of_logits_are_equal_without_sums_of_weights(whole_planes):
    image = torch.randn(2, 38, 38, 17, generator=torch.Generator().manual_seed(1))
    plan, weight = WindowPlan((38, 38, 17), (8, 8, 8), 0.25), window_weights((8, 8, 8))
    chunks = [
        [
            (chunk.region, chunk.tensor.clone(), chunk.weights is not None)
            for chunk in stream_windows(
                reader(image), plan, network(3), weight, whole_planes=whole_planes, sum_weights=sum_weights
            )
        ]
        for sum_weights in (True, False)
    ]
    for (region, sums, weighted), (other_region, other_sums, other_weighted) in zip(*chunks, strict=True):
        assert region == other_region
        assert torch.equal(sums, other_sums)
        assert (weighted, other_weighted) == (True, False)


def test_the_ring_is_as_deep_as_a_window_along_the_longest_axis():
    image = torch.zeros(1, 16, 16, 400)
    seen = []
    plan = WindowPlan((16, 16, 400), (8, 8, 8), 0.5)
    for one in stream_windows(
        reader(image), plan, lambda w: w.expand(-1, 5, -1, -1, -1), window_weights((8, 8, 8))
    ):
        seen.append((one.axis, one.tensor.untyped_storage().nbytes()))
    assert set(seen) == {(2, 5 * 16 * 16 * 8 * 4)}


def test_weights_may_be_any_array_of_the_windows_shape():
    image = torch.randn(1, 9, 10, generator=torch.Generator().manual_seed(3))
    weight = torch.rand(4, 4, generator=torch.Generator().manual_seed(4)) + 0.1
    sums, total = torch.zeros(9, 10), torch.zeros(9, 10)
    for x, y in (
        (x, y) for x in (0, 2, 4, 5) for y in (0, 2, 4, 6)
    ):  # by hand: steps of 2, the last moved back
        sums[x : x + 4, y : y + 4] += weight * torch.arange(16).reshape(4, 4)
        total[x : x + 4, y : y + 4] += weight
    found, _ = streamed(image, (4, 4), lambda w: torch.arange(16.0).reshape(1, 1, 4, 4), weight=weight)
    torch.testing.assert_close(found[0], sums / total)


def test_windows_left_out_add_neither_sum_nor_weight():
    image = torch.randn(1, 24, 20, generator=torch.Generator().manual_seed(5))
    image[:, 8:] = 0
    predict = network(2, channels=1)
    kept, _ = streamed(image, (8, 8), predict, keep=lambda box: bool((image[0][box] != 0).any()))
    everything, _ = streamed(image, (8, 8), predict)
    assert torch.equal(kept[:, :4], everything[:, :4])  # rows that no skipped window touches: to the bit
    assert torch.equal(kept[:, 12:], torch.zeros(3, 12, 20))  # rows that no kept window covers
    none, ranges = streamed(image, (8, 8), predict, keep=lambda box: False)
    assert (none, ranges) == (None, [])


def test_scores_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"logits of \(2, 2\) for windows of \(4, 4\)"):
        streamed(torch.zeros(1, 8, 8), (4, 4), lambda w: w[..., ::2, ::2])


@pytest.mark.parametrize(
    ("length", "window", "overlap", "clipped", "even"),
    [
        (10, 4, 0.5, (0, 2, 4, 6), (0, 2, 4, 6)),
        (11, 4, 0.5, (0, 2, 4, 6, 7), (0, 2, 4, 5, 7)),  # four steps of 1.75: 1.75, 3.5 and 5.25 rounded
        (4, 4, 0.5, (0,), (0,)),
        (9, 3, 0.0, (0, 3, 6), (0, 3, 6)),
        (5, 4, 0.9, (0, 1), (0, 1)),  # a step is at least one voxel
        (3, 1, 0.5, (0, 1, 2), (0, 1, 2)),  # slices
    ],
)
def test_where_windows_begin(length, window, overlap, clipped, even):
    assert clipped_starts(length, window, overlap) == clipped
    assert even_starts(length, window, overlap) == even


def test_sums_may_be_of_half_precision():
    image = torch.randn(1, 12, 9, generator=torch.Generator().manual_seed(0))
    plan, weight = WindowPlan((12, 9), (8, 9), 0.5, along=0), torch.full((8, 9), 1e-3)
    scored = stream_windows(reader(image), plan, lambda w: w.clone(), weight, dtype=torch.float16)
    sums = {one.start: (one.tensor.clone(), one.weights.clone()) for one in scored}
    first, weights = sums[0]
    assert first.dtype == weights.dtype == torch.float16
    once = (image * 1e-3).half()  # rows 0 to 3 lie in one window, the next ones in two: rounded at each
    assert torch.equal(first[:, :4], once[:, :4])
    assert torch.equal(sums[4][0][:, :4], (once[:, 4:8] + image[:, 4:8] * 1e-3).half())


def test_windows_beyond_a_small_image_continue_it_as_its_mirror_image():
    image = torch.arange(1.0, 7.0).view(1, 2, 3)
    plan = WindowPlan((2, 3), (3, 6), 0.5, border="reflect")
    seen = []
    chunks = stream_windows(reader(image), plan, lambda w: seen.append(w) or w, window_weights((3, 6)))
    whole = torch.cat([chunk.means.clone() for chunk in chunks], dim=1 + plan.axis)
    # 3 columns are missing: 1 before and 2 after; 1 row after
    row, other = [2, 1, 2, 3, 2, 1], [5, 4, 5, 6, 5, 4]
    assert seen[0].tolist() == [[[row, other, row]]]
    assert torch.allclose(whole, image)
