"""RoIAlign in 2D and 3D against a direct computation, and its gradient."""

import itertools

import pytest
import torch

from medseg.models.detection.roi_align import Regions, RoIAlign


def interpolate(feature, position):
    """Linear interpolation of (C, *S) at a position, as RoIAlign defines it outside the map."""
    size = feature.shape[1:]
    if any(p < -1 or p > n for p, n in zip(position, size, strict=True)):
        return feature.new_zeros(len(feature))
    clamped = [min(max(p, 0), n - 1) for p, n in zip(position, size, strict=True)]
    total = feature.new_zeros(len(feature))
    for corner in itertools.product((0, 1), repeat=len(size)):
        weight, index = 1.0, []
        for p, n, c in zip(clamped, size, corner, strict=True):
            low = int(p)
            weight *= p - low if c else 1 - (p - low)
            index.append(min(low + c, n - 1))
        total = total + weight * feature[(slice(None), *index)]
    return total


def direct(feature, box, pooling, stride):
    dims = len(pooling.size)
    shift = 0.5 if pooling.aligned else 0
    low = [b / stride - shift for b in box[:dims]]
    length = [(h - b) / stride for b, h in zip(box[:dims], box[dims:], strict=True)]
    if not pooling.aligned:
        length = [max(1, one) for one in length]
    out = feature.new_zeros(len(feature), *pooling.size)
    for cell in itertools.product(*map(range, pooling.size)):
        values = []
        for sample in itertools.product(range(pooling.samples), repeat=dims):
            position = [
                lo + (c + (s + 0.5) / pooling.samples) * n / bins
                for lo, c, s, n, bins in zip(low, cell, sample, length, pooling.size, strict=True)
            ]
            values.append(interpolate(feature, position))
        out[(slice(None), *cell)] = torch.stack(values).mean(dim=0)
    return out


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("dims", [2, 3])
def test_it_equals_the_direct_computation(dims, aligned):
    generator = torch.Generator().manual_seed(0)
    levels = [torch.randn(2, 3, *(n, n + 1, n - 1)[:dims], generator=generator) for n in (6, 4)]
    rows = [[-3.0, 1, 2, 9, 7.5, 8], [2, 2, 2, 2.2, 2.1, 2.3], [1, 4, 3, 30, 30, 9]]
    boxes = torch.tensor([row[:dims] + row[3 : 3 + dims] for row in rows])
    regions = Regions(boxes, torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]))
    pooling = RoIAlign((3, 2, 2)[:dims], samples=2, aligned=aligned)
    pooled = pooling.pool(levels, [(2,) * dims, (4,) * dims], regions)
    for k, (image, level, stride) in enumerate([(0, 0, 2), (1, 0, 2), (1, 1, 4)]):
        expected = direct(levels[level][image], boxes[k].tolist(), pooling, stride)
        torch.testing.assert_close(pooled[k], expected, atol=1e-5, rtol=1e-5)


def test_gradient_equals_the_numerical_one():
    feature = torch.randn(1, 2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    feature.requires_grad_()
    zero = torch.tensor([0, 0])
    regions = Regions(torch.tensor([[0.3, 0.2, 3.1, 4.4], [1.0, 1, 9, 9]]), zero, zero)

    def pool(x):
        return RoIAlign((2, 2), aligned=True).pool([x], [(1, 1)], regions)

    assert torch.autograd.gradcheck(pool, (feature,))


def test_adaptive_samples_average_every_voxel():
    # 4 voxels a bin: with one sample per voxel, the mean
    feature = torch.arange(16.0).view(1, 1, 4, 4)
    zero = torch.tensor([0])
    pooled = RoIAlign((2, 1), samples=0, aligned=True).pool(
        [feature], [(1, 1)], Regions(torch.tensor([[0.0, 0, 4, 4]]), zero, zero)
    )
    assert pooled.flatten().tolist() == [3.5, 11.5]


def test_no_regions_leave_a_gradient_of_zero():
    feature = torch.ones(1, 3, 4, 4, requires_grad=True)
    none = torch.zeros(0, dtype=torch.long)
    pooled = RoIAlign((2, 2)).pool([feature], [(1, 1)], Regions(torch.zeros(0, 4), none, none))
    assert pooled.shape == (0, 3, 2, 2)
    pooled.sum().backward()
    assert feature.grad is not None
    assert not feature.grad.any()


def test_masks_of_objects_in_regions():
    # two layers of ids; the object is pooled from its own layer only
    maps = torch.tensor([[[7, 7, 0, 0], [7, 7, 9, 9]], [[0, 0, 7, 7], [0, 0, 7, 7]]])
    boxes = torch.tensor([[0.0, 0, 2, 4], [0, 0, 2, 4], [0, 0, 2, 4]])
    regions = Regions(boxes, torch.tensor([0, 0, 1]), torch.zeros(3, dtype=torch.long))
    pooled = RoIAlign((2, 2), samples=2, aligned=True).pool_ids(maps, regions, torch.tensor([7, 9, 7]))
    # samples along the second axis: 0, 1 | 2, 3; along the first: 0 (cut), 0.25 | 0.75, 1 (cut)
    assert pooled[0].tolist() == [[1, 0], [1, 0]]
    assert pooled[1].tolist() == [[0, 0.125], [0, 0.875]]
    assert pooled[2].tolist() == [[0, 1], [0, 1]]
