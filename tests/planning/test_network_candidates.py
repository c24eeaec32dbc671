"""The ladder of candidate networks."""

import numpy as np
import pytest

from medseg.planning.measured.step_timer import network_config
from medseg.planning.network_candidates import LadderLimits, candidate_ladder
from medseg.planning.nnunet_rules import DatasetSizes, Rules, plan_dataset_sizes


def volumes(shape, spacing=(1.0, 1.0, 1.0), cases=100):
    sizes = DatasetSizes(np.tile(spacing, (cases, 1)), np.tile(np.array(shape, float), (cases, 1)), cases, 2)
    return plan_dataset_sizes(sizes).full_resolution


def test_small_volumes_keep_their_patch_and_lose_batch_and_width():
    ladder = candidate_ladder(volumes((36, 50, 35), cases=260), LadderLimits(max_levels=5))
    steps = [(one.batch_size, one.topology.features[0]) for one in ladder if one.comfortable]
    assert steps == [(9, 32), (4, 32), (2, 32), (2, 24), (2, 16)]
    assert {one.topology.patch_size for one in ladder if one.comfortable} == {(40, 56, 40)}


def test_each_candidate_costs_less_than_the_one_before():
    for start in (volumes((155, 240, 240)), Rules(2).plan((1.0, 1.0), (999, 960), 20 * 999 * 960)):
        ladder = candidate_ladder(start, LadderLimits(max_levels=5, max_coarsening=2))
        work = [one.work(1, 2) for one in ladder]
        assert work == sorted(work, reverse=True)
        assert work[0] > 20 * work[-1]


def test_a_smaller_patch_sees_a_coarser_scan():
    ladder = candidate_ladder(volumes((155, 240, 240)), LadderLimits(max_coarsening=3))
    full, last = ladder[0], [one for one in ladder if one.comfortable][-1]
    assert full.spacing == (1.0, 1.0, 1.0)
    assert last.topology.voxels == pytest.approx(64**3, rel=0.35)
    assert 1.5 < last.spacing[0] < 2.2
    assert last.coverage > 0.15


def test_the_spacing_stays_within_the_limit():
    ladder = candidate_ladder(volumes((155, 240, 240)), LadderLimits(max_coarsening=1.2))
    assert max(one.spacing[0] for one in ladder) <= 1.2


def test_a_patch_above_the_usual_size_shrinks_before_the_width():
    sizes = DatasetSizes(np.ones((50, 3)), np.tile((155.0, 240.0, 240.0), (50, 1)), 50, 2)
    large = plan_dataset_sizes(sizes, 40).full_resolution
    usual = plan_dataset_sizes(sizes).full_resolution.topology.voxels
    ladder = candidate_ladder(large, LadderLimits(usual_voxels=usual))
    wide = [one for one in ladder if one.topology.features[0] == 32]
    assert wide[0].topology.voxels > 2 * usual
    assert wide[-1].topology.voxels <= 1.1 * usual


def test_pictures():
    start = Rules(2).plan((1.0, 1.0), (256, 256), 120 * 256 * 256)
    last = [one for one in candidate_ladder(start, LadderLimits(max_levels=5)) if one.comfortable][-1]
    assert (last.topology.patch_size, last.batch_size) == ((256, 256), 2)
    assert last.topology.features == (16, 32, 64, 128, 256)


def test_networks_at_half_the_resolution_come_before_smaller_patches():
    start = Rules(2).plan((1.0, 1.0), (256, 256), 120 * 256 * 256)
    ladder = candidate_ladder(start, LadderLimits(max_levels=5, half_resolution=True))
    work = [one.work(3, 2) for one in ladder]
    assert work == sorted(work, reverse=True)
    half = [one.topology for one in ladder if one.topology.strides[0] == (2, 2)]
    assert half[0].patch_size == (256, 256)
    assert [one.features[0] for one in half[:3]] == [32, 24, 16]
    assert half[2].features == (16, 32, 64, 128, 256)
    assert half[2].divisor == (32, 32)
    assert all(one.patch_size == (256, 256) for one in (c.topology for c in ladder[: -len(half)]))


def test_networks_that_tell_objects_apart_keep_a_thin_level_at_full_resolution():
    start = Rules(2).plan((1.0, 1.0), (256, 256), 120 * 256 * 256)
    ladder = candidate_ladder(start, LadderLimits(max_levels=5, half_resolution=True, outlines=True))
    work = [one.work(3, 2) for one in ladder]
    assert work == sorted(work, reverse=True)
    thin = [one for one in ladder if one.topology.thin]
    assert [one.topology.features for one in thin[:2]] == [
        (8, 24, 48, 96, 192, 384), (8, 16, 32, 64, 128, 256)
    ]  # fmt: skip
    assert (thin[1].topology.patch_size, thin[1].batch_size) == ((192, 192), 4)
    assert thin[1].topology.strides[:2] == ((1, 1), (2, 2))
    network = network_config(thin[1].topology, deep_supervision=False)
    assert (network.convs_per_level, network.decoder_convs) == ((1, 2, 2, 2, 2, 2), (1, 2, 2, 2, 2))
