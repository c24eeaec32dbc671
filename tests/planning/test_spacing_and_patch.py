"""From a fingerprint to candidates, and back to medseg's order of axes."""

import pytest

from medseg.planning.fingerprint import ClassFingerprint, Fingerprint
from medseg.planning.network_candidates import first_stage
from medseg.planning.spacing_and_patch import plan_geometry, spacing_setting


def fingerprint(shape, spacing=(1.0, 1.0, 1.0), kind="volume", cases=100, radius=4.0):
    lesion = ClassFingerprint(name="lesion", voxel_share=0.01, case_share=1.0, radius=radius)
    return Fingerprint(
        kind=kind, modality="other" if kind == "volume" else "gray", cases=cases, channels=1,
        spacings=(spacing,) * cases, shapes=(shape,) * cases, intensities=None, nonzero_share=1.0,
        classes=(lesion,), sampled=12,
    )  # fmt: skip


def smallest(geometry):
    return [one for one in geometry.ladder if one.comfortable][-1]


def test_the_axes_of_volumes_come_back():
    geometry = plan_geometry(fingerprint((35, 36, 50)), on_gpu=False, memory_gb=8)
    assert geometry.order == (2, 1, 0)  # superior, anterior, right
    assert geometry.topology(geometry.ladder[0]).patch_size == (40, 40, 56)
    assert geometry.spacing(geometry.ladder[0]) == (1, 1, 1)


def test_a_coarse_axis_keeps_its_place():
    geometry = plan_geometry(fingerprint((24, 320, 256), (3.0, 0.8, 0.8)), on_gpu=False, memory_gb=8)
    assert geometry.order == (0, 2, 1)  # the right-left axis is the coarsest
    topology = geometry.topology(geometry.ladder[0])
    assert topology.patch_size[0] < topology.patch_size[2] < topology.patch_size[1]
    assert topology.strides[1] == (1, 2, 2)
    assert topology.kernels[0] == (1, 3, 3)
    covered = geometry.coverage(geometry.ladder[0])
    assert covered == tuple(min(1, n / m) for n, m in zip(topology.patch_size, (24, 320, 256), strict=True))


def test_slices_where_patches_are_thin():
    geometry = plan_geometry(fingerprint((400, 320, 5), (0.5, 0.5, 7.0)), on_gpu=False, memory_gb=8)
    assert (geometry.dims, geometry.slice_axis, geometry.neighbors) == (2, 2, 1)
    patch = geometry.topology(geometry.ladder[0]).patch_size
    assert patch[0] > patch[1] > 256
    assert geometry.coverage(geometry.ladder[0]) == (1, 1, 0)
    assert geometry.spacing(geometry.ladder[0]) == (0.5, 0.5, 7.0)


def test_slices_on_request():
    found = fingerprint((64, 50, 40))
    geometry = plan_geometry(found, on_gpu=False, memory_gb=8, dims=2)
    assert geometry.slice_axis == 2  # without a coarsest axis, axial slices
    assert geometry.topology(geometry.ladder[0]).patch_size == (64, 56)


def test_pictures():
    geometry = plan_geometry(fingerprint((256, 320), (1.0, 1.0), "picture"), on_gpu=False, memory_gb=8)
    assert (geometry.dims, geometry.slice_axis) == (2, None)
    assert smallest(geometry).topology.levels == 5
    assert (
        plan_geometry(
            fingerprint((256, 320), (1.0, 1.0), "picture"), on_gpu=True, memory_gb=8
        ).start.topology.levels
        == geometry.start.topology.levels
        == 7
    )


def test_pictures_of_thick_structures_get_more_updates_on_a_cpu():
    """A small network at half the resolution serves other sites better than a large one with few updates."""
    thick = fingerprint((256, 320), (1.0, 1.0), "picture", radius=6.0)
    thin = thick.model_copy(update={"background_radius": 2.0})
    assert plan_geometry(thick, on_gpu=False, memory_gb=8).patience == 3
    assert plan_geometry(thin, on_gpu=False, memory_gb=8).patience == 1
    assert plan_geometry(thick, on_gpu=True, memory_gb=8).patience == 1
    assert plan_geometry(fingerprint((64, 64, 64)), on_gpu=False, memory_gb=8).patience == 1


@pytest.mark.parametrize(("radius", "spacing"), [(1.2, 1.2), (6.0, 2.2)])
def test_thin_structures_limit_the_spacing(radius, spacing):
    geometry = plan_geometry(fingerprint((240, 240, 155), radius=radius), on_gpu=False, memory_gb=8)
    assert spacing * 0.85 < max(smallest(geometry).spacing) <= spacing


def test_the_spacing_is_left_out_where_all_scans_have_it():
    found = fingerprint((20, 20, 20), (1.0, 1.0, 2.5))
    assert spacing_setting(found, (1.0, 1.0, 2.501)) is None
    assert spacing_setting(found, (1.0, 1.0, 2.0)) == [1, 1, 2]
    assert spacing_setting(fingerprint((20, 20), (1.0, 1.0), "picture"), (2.0, 2.0)) is None


def test_the_first_stage_of_a_cascade():
    found = fingerprint((512, 512, 240), (0.8, 0.8, 2.0))
    geometry = plan_geometry(found, on_gpu=True, memory_gb=8, full_resolution=True)
    second = geometry.ladder[0]
    assert second.coverage < 0.1
    first = first_stage(second, geometry.max_levels)
    assert first.coverage == pytest.approx(0.25, abs=0.06)
    # in-plane voxels are finer than half the others, so they become coarser first
    x, y, z = geometry.spacing(first)
    assert x == y > 0.8
    assert 2 * x == pytest.approx(z, rel=0.03)  # then all axes together
    low = geometry.nnunet.low_resolution
    assert max(first.spacing) == pytest.approx(max(low.spacing), rel=0.1)
    assert first.topology.features[0] == second.topology.features[0]
    assert first.topology.voxels <= 1.06 * second.topology.voxels


def test_a_small_patch_keeps_the_spacing_for_a_second_stage():
    found = fingerprint((240, 240, 155))
    geometry = plan_geometry(found, on_gpu=False, memory_gb=8, full_resolution=True)
    second = smallest(geometry)
    assert second.spacing == (1, 1, 1)
    first = first_stage(second, geometry.max_levels)
    assert first.spacing[0] > 2
    assert first.topology.levels <= 5


def test_no_first_stage_where_a_patch_covers_enough():
    geometry = plan_geometry(fingerprint((64, 64, 64)), on_gpu=False, memory_gb=8)
    assert first_stage(geometry.ladder[0]) is None
