"""Levels of a U-Net, and their cost."""

import pytest

from medseg.planning.topology import Topology, build_topology, features, permute

FLAT = Topology((8, 8), ((1, 1), (2, 2)), ((3, 3), (3, 3)), (4, 8))


def test_isotropic_axes_are_halved_together():
    topology = build_topology((35, 51, 35), (1, 1, 1))
    # 35 → 18 → 9 → 5 and 51 → 26 → 13 → 7: three times, then below 8
    assert topology.strides == ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    assert topology.patch_size == (40, 56, 40)
    assert topology.kernels == ((3, 3, 3),) * 4
    assert topology.features == (32, 64, 128, 256)


def test_a_coarse_axis_waits_until_the_others_are_as_coarse():
    topology = build_topology((16, 64, 64), (5.0, 1.0, 1.0))
    # spacing 1 → 2 → 4: 5 / 4 < 2, so the coarse axis is halved and convolved from the third level on
    assert topology.strides[:4] == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2))
    assert topology.kernels[:3] == ((1, 3, 3), (1, 3, 3), (3, 3, 3))


@pytest.mark.parametrize(("size", "levels"), [(11, 1), (12, 2)])
def test_a_lone_axis_needs_12_voxels(size, levels):
    assert build_topology((4, size), (1, 1)).levels == levels


def test_the_number_of_levels_can_be_limited():
    topology = build_topology((256, 256), (1, 1), base=16, max_levels=5)
    assert topology.features == (16, 32, 64, 128, 256)
    assert topology.level_sizes[-1] == (16, 16)


def test_features_are_capped():
    assert features(6) == (32, 64, 128, 256, 320, 320)


def test_the_feature_maps_are_counted():
    # level 0: 64 pixels, 4 features: 2 in the encoder, 3 in the decoder; level 1: 16 pixels, 8 features, 2
    assert FLAT.feature_elements(classes=3) == 5 * 4 * 64 + 2 * 8 * 16 + 3 * 64


def test_the_multiplications_are_counted():
    encoder = 9 * 64 * (1 * 4 + 4 * 4) + 9 * 16 * (4 * 8 + 8 * 8)
    decoder = 64 * 8 * 4 + 9 * 64 * (8 * 4 + 4 * 4)
    assert FLAT.multiply_adds(channels=1, classes=3) == encoder + decoder + 3 * 4 * 64


def test_axes_are_permuted_everywhere():
    topology = build_topology((16, 64, 32), (5.0, 1.0, 1.0))
    turned = topology.permuted((2, 0, 1))
    assert turned.patch_size == permute(topology.patch_size, (2, 0, 1)) == (32, 16, 64)
    assert turned.kernels[0] == (3, 1, 3)
    assert turned.strides[1] == (2, 1, 2)
    assert turned.permuted((1, 2, 0)) == topology


def test_a_thin_level_has_one_convolution_on_either_side():
    thin = Topology((8, 8), ((1, 1), (2, 2)), ((3, 3), (3, 3)), (4, 8)).thinned()
    assert (thin.features, thin.with_features(6, 99).features) == ((8, 4), (8, 6))
    encoder = 9 * 64 * 1 * 8 + 9 * 16 * (8 * 4 + 4 * 4)
    decoder = 64 * 4 * 8 + 9 * 64 * 2 * 8 * 8
    assert thin.multiply_adds(channels=1, classes=3) == encoder + decoder + 3 * 8 * 64
    # level 0: 1 in the encoder, 2 in the decoder; level 1: 16 pixels, 4 features, 2
    assert thin.feature_elements(classes=3) == 3 * 8 * 64 + 2 * 4 * 16 + 3 * 64
    assert thin.permuted((1, 0)).thin
