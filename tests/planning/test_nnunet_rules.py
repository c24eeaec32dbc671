"""nnU-Net's rules, compared with plans that nnU-Net wrote (see ``source`` in the file)."""

import json
from pathlib import Path

import numpy as np
import pytest

from medseg.planning.nnunet_rules import (
    DatasetSizes,
    Rules,
    coarser,
    plan_dataset_sizes,
    target_spacing,
    transposition,
    voxel_share,
)

PLANS = json.loads((Path(__file__).parent / "data" / "nnunet_plans.json").read_text())["plans"]


def sizes_of(plan):
    spacings, shapes = np.array(plan["spacings"]), np.array(plan["shapes"], dtype=float)
    return DatasetSizes(spacings, shapes, plan["cases"], plan["labels"])


def as_written(configuration):
    topology = configuration.topology
    return {
        "spacing": pytest.approx(configuration.spacing, rel=1e-9),
        "median_image_size_in_voxels": pytest.approx(configuration.median_shape),
        "patch_size": list(topology.patch_size),
        "batch_size": configuration.batch_size,
        "batch_dice": configuration.batch_dice,
        "features_per_stage": list(topology.features),
        "kernel_sizes": [list(one) for one in topology.kernels],
        "strides": [list(one) for one in topology.strides],
    }


@pytest.mark.parametrize("written", PLANS, ids=lambda plan: plan["name"])
def test_the_plans_are_nnunets(written):
    plan = plan_dataset_sizes(sizes_of(written))
    planned = {"2d": plan.slices, "3d_fullres": plan.full_resolution, "3d_lowres": plan.low_resolution}
    assert list(plan.transpose) == written["transpose_forward"]
    assert {name: as_written(one) for name, one in planned.items() if one} == written["configurations"]


def test_a_coarse_axis_of_few_slices_gets_the_10th_percentile():
    shapes = np.tile((10.0, 200.0, 200.0), (11, 1))
    spacings = np.array([[5.0 + i, 1.0, 1.0] for i in range(11)])
    assert target_spacing(spacings, shapes).tolist() == [6, 1, 1]
    spacings[:2, 0] = 0.5  # below the others: just above them
    assert target_spacing(spacings, shapes)[0] == 1.00001
    shapes[:, 0] = 100  # not few: the median
    assert target_spacing(spacings, shapes)[0] == 10


def test_the_coarsest_axis_comes_first():
    assert transposition((1.0, 3.0, 2.0)) == (1, 0, 2)
    assert transposition((1.0, 1.0, 1.0)) == (0, 1, 2)


def test_more_memory_gives_larger_patches():
    spacing, median = (1.0, 1.0, 1.0), (155.0, 240.0, 240.0)
    small, large = (Rules(4, gb).plan(spacing, median, 1e9).topology.voxels for gb in (8, 24))
    assert large > 2 * small


def test_a_batch_is_at_most_5_percent_of_the_dataset():
    # 50 · 64³ voxels, of which 5% are 2.5 patches: 2, whatever the memory
    assert Rules(2, 80).plan((1.0, 1.0, 1.0), (64.0, 64.0, 64.0), 50 * 64**3).batch_size == 2
    assert Rules(2, 80).plan((1.0, 1.0, 1.0), (64.0, 64.0, 64.0), 400 * 64**3).batch_size == 20


def test_fine_axes_become_coarser_first():
    assert coarser(np.array([5.0, 1.0, 1.0])).tolist() == [5.0, 1.03, 1.03]
    assert coarser(np.array([2.0, 1.0, 1.0])).tolist() == [2.06, 1.03, 1.03]


def test_a_patch_larger_than_the_scan_covers_all_of_it():
    assert voxel_share((40, 40), (20.0, 80.0)) == 0.5
