from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from medseg.instances import Instances
from medseg.instances.run_lengths import compress_runs, mask_of_runs, run_lengths


@pytest.mark.parametrize("seed", range(8))
def test_run_lengths_equal_those_of_pycocotools(seed):
    rng = np.random.default_rng(seed)
    mask = rng.uniform(size=(rng.integers(1, 90), rng.integers(1, 90))) < rng.choice([0.02, 0.5, 0.98])
    mask[0, 0] = True
    found = Instances.from_masks(mask[None], np.array([1]), np.array([1.0]))
    runs = run_lengths(found.masks[0], found.boxes[0], mask.shape)
    expected: Any = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert compress_runs(runs) == expected["counts"].decode()
    assert np.array_equal(mask_of_runs(runs, mask.shape), mask)
