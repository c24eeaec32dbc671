"""The bounding box of a mask from the parts of it that change."""

import numpy as np
import pytest

from medseg.inference.interactive.occupancy import Occupancy
from medseg.prompts.users.regions import bounding_box


@pytest.mark.parametrize("shape", [(9, 7), (6, 9, 7)])
def test_the_box_follows_every_change(shape):
    rng = np.random.default_rng(0)
    mask = rng.random(shape) < 0.02
    filled = Occupancy.of(mask)
    assert filled.box == bounding_box(mask)
    for _ in range(60):
        low = [int(rng.integers(n)) for n in shape]
        region = tuple(slice(a, int(rng.integers(a, n)) + 1) for a, n in zip(low, shape, strict=True))
        before = mask[region].copy()
        mask[region] = rng.random(before.shape) < rng.choice([0.0, 0.0, 0.1, 1.0])
        filled = filled.replaced(region, before, mask[region])
        assert filled.box == bounding_box(mask)


def test_an_empty_mask_has_no_box_and_the_counts_before_a_change_are_kept():
    mask = np.zeros((4, 5), bool)
    empty = Occupancy.of(mask)
    assert empty.box is None
    one = empty.replaced((slice(1, 2), slice(3, 4)), np.zeros((1, 1), bool), np.ones((1, 1), bool))
    assert one.box == (slice(1, 2), slice(3, 4))
    assert empty.box is None
