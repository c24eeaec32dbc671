import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.data.augmentation import AugmentConfig, Augmenter, SpatialTransform, resampling
from medseg.data.augmentation.options import AffineConfig, ElasticConfig, FlipConfig
from medseg.data.augmentation.resampling import resample
from medseg.data.augmentation.spatial import thick_axis

STRONG = AffineConfig(probability=1, rotate=40, scale=(0.7, 1.4), shear=0.2)
BENT = ElasticConfig(probability=1, control_points=(2, 4), displacement=(0.3, 0.4))


def augmenter(dims, **settings):
    return Augmenter(AugmentConfig(**settings), dims)


def rng(seed=0):
    return np.random.default_rng(seed)


def smooth(shape, seed=0):
    """A smooth map of 0 … 3 of whole numbers in large pieces, (1, *S)."""
    axes = np.meshgrid(*[np.linspace(0, 1, n) for n in shape], indexing="ij")
    phases = rng(seed).uniform(0, 6, len(shape))
    waves = sum(np.sin(5 * a + p) for a, p in zip(axes, phases, strict=True))
    return torch.from_numpy(np.digitize(waves, [-0.7, 0, 0.7])[None])


def moved(transform, patch, image, label=None):
    label = image if label is None else label
    engine = augmenter(len(patch))
    return engine.apply_spatial(image.float(), label.to(torch.int16), transform, patch)


@pytest.mark.parametrize("patch", [(32, 40), (16, 20, 24)])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("elastic", [ElasticConfig(), BENT])
def test_image_and_label_are_transformed_alike(patch, seed, elastic):
    engine = augmenter(
        len(patch),
        affine=STRONG,
        flip=FlipConfig(probability=0.5, axes=tuple(range(len(patch)))),
        elastic=elastic,
    )
    transform = engine.draw_transform(rng(seed), (1.0,) * len(patch))
    source = smooth(transform.source_size(patch), seed)
    image, label = engine.apply_spatial(source.float(), source.to(torch.int16), transform, patch)
    assert image.shape == label.shape == (1, *patch)
    assert label.dtype == torch.int16
    # away from edges the linear image is a whole number, and the same one
    whole = (image - image.round()).abs() < 1e-3
    assert whole.float().mean() > 0.5
    assert torch.equal(image.round()[whole].to(torch.int16), label[whole])
    assert ((image - label).abs() <= 1.01 * 3).all()


@pytest.mark.parametrize(("dims", "spacing"), [(2, (1.0, 1.0)), (3, (1.0, 1.0, 1.0)), (3, (0.5, 1.0, 3.0))])
@given(seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_the_source_size_is_large_enough(dims, spacing, seed):
    patch = (9, 12, 10)[:dims]
    transform = augmenter(dims, affine=STRONG, elastic=BENT).draw_transform(rng(seed), spacing, patch)
    ones = torch.ones(1, *transform.source_size(patch))
    image, label = moved(transform, patch, ones)
    torch.testing.assert_close(image, torch.ones(1, *patch))  # no zero from outside has been mixed in
    assert (label == 1).all()


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 1.0, 4.0)])
def test_rotations_are_rotations_in_mm(spacing):
    mm = np.diag(spacing)
    for seed in range(10):
        config = AffineConfig(probability=1, rotate=90)
        transform = augmenter(3, affine=config).draw_transform(rng(seed), spacing)
        assert transform.matrix is not None
        in_mm = mm @ transform.matrix @ np.linalg.inv(mm)
        np.testing.assert_allclose(in_mm @ in_mm.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(in_mm) == pytest.approx(1)


def test_a_quarter_turn_on_an_anisotropic_grid_by_hand():
    # spacing 1 × 2 mm: 4 voxels along rows are as long as 2 along columns, so a turn by 90° maps
    # a step of 1 column (2 mm) to 2 rows, and a step of 1 row (1 mm) to half a column
    class Quarter(np.random.Generator):
        def uniform(self, low=0.0, high=1.0, size=None):
            return np.full(size, high) if size else high

    engine = augmenter(2, affine=AffineConfig(probability=1, rotate=90))
    transform = engine.draw_transform(Quarter(np.random.PCG64(0)), (1.0, 2.0))
    assert transform.matrix is not None
    np.testing.assert_allclose(np.abs(transform.matrix), [[0, 2], [0.5, 0]], atol=1e-12)


def test_magnification_by_hand():
    # magnified by 2, the patch shows a region half as large
    engine = augmenter(2, affine=AffineConfig(probability=1, scale=(2, 2)))
    transform = engine.draw_transform(rng(), (1.0, 1.0))
    np.testing.assert_allclose(transform.matrix, np.eye(2) / 2)
    assert transform.source_size((20, 10)) == (12, 7)  # 10 + 2 and 5 + 2
    assert SpatialTransform(None, (0,)).source_size((20, 10)) == (20, 10)


def test_scales_are_drawn_between_their_bounds_and_evenly_about_1():
    engine = augmenter(2, affine=AffineConfig(probability=1, scale=(0.5, 2)))
    generator = rng()
    scales = [1 / np.linalg.det(engine.draw_transform(generator, (1.0, 1.0)).matrix) ** 0.5 for _ in range(400)]
    assert min(scales) >= 0.5
    assert max(scales) <= 2
    assert abs(np.mean(np.log(scales))) < 3 * np.log(2) / np.sqrt(
        3 * 400
    )  # 3 standard errors of U(-log 2, log 2)


def test_landmarks_move_with_the_matrix():
    # a bright voxel at offset d from the source's center is seen at offset M⁻¹ d
    patch, source = (33, 33), (61, 61)
    matrix = np.array([[0.8, -0.5], [0.5, 0.9]])
    for offset in ((6, -4), (-5, 7), (0, 9)):
        image = torch.zeros(1, *source)
        image[0, 30 + offset[0], 30 + offset[1]] = 100
        seen, _ = moved(SpatialTransform(matrix, ()), patch, image)
        weights = seen[0] / seen.sum()
        center = [(weights.sum(1 - a) * torch.arange(33)).sum().item() - 16 for a in (0, 1)]
        np.testing.assert_allclose(center, np.linalg.solve(matrix, offset), atol=0.3)


def test_the_identity_keeps_every_voxel():
    source = torch.from_numpy(rng().normal(size=(2, 10, 12))).float()
    image, label = moved(SpatialTransform(np.eye(2), ()), (8, 10), source, torch.arange(120).reshape(1, 10, 12))
    torch.testing.assert_close(image, source[:, 1:-1, 1:-1], atol=1e-5, rtol=0)
    assert torch.equal(label, torch.arange(120, dtype=torch.int16).reshape(1, 10, 12)[:, 1:-1, 1:-1])


def test_outside_the_source_lies_zero():
    image, label = moved(SpatialTransform(np.eye(2), ()), (8, 8), torch.ones(1, 4, 4))
    assert image.sum() == 16
    assert label.sum() == 16


@pytest.mark.parametrize("axes", [(), (0,), (1,), (0, 1)])
def test_flips(axes):
    source = torch.arange(12).reshape(1, 3, 4)
    image, label = moved(SpatialTransform(None, axes), (3, 4), source)
    expected = np.flip(source.numpy(), [a + 1 for a in axes]) if axes else source.numpy()
    assert np.array_equal(image, expected)
    assert np.array_equal(label, expected)
    again, _ = moved(SpatialTransform(None, axes), (3, 4), image)
    assert torch.equal(again, source.float())  # twice is the identity


def test_each_axis_is_flipped_by_its_own_draw():
    engine = augmenter(2, flip=FlipConfig(probability=0.5, axes=(0, 1)))
    generator = rng()
    drawn = [engine.draw_transform(generator, (1.0, 1.0)).flips for _ in range(4000)]
    for combination in ((), (0,), (1,), (0, 1)):
        # 1000 expected, standard deviation √(4000 · 1/4 · 3/4) = 27.4
        assert abs(drawn.count(combination) - 1000) < 3 * 27.4


def reference(image, label, matrix, size, field):
    """The same by ``grid_sample`` on (x, y, z) positions from -1 to 1, in float64."""
    offsets = [torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in size]
    grid = torch.stack(torch.meshgrid(*offsets, indexing="ij"), dim=-1) @ torch.from_numpy(matrix).T
    grid = grid + field.double().movedim(0, -1)
    half = torch.tensor([(n - 1) / 2 for n in image.shape[1:]], dtype=torch.float64)
    grid = (grid / half).flip(-1)[None]
    options = {"align_corners": True, "padding_mode": "zeros"}
    linear = torch.nn.functional.grid_sample(image.double()[None], grid, mode="bilinear", **options)
    nearest = torch.nn.functional.grid_sample(label.double()[None], grid, mode="nearest", **options)
    return linear[0], nearest[0]


@pytest.mark.parametrize("source", [(30, 28), (6, 9), (21, 20, 24), (7, 5, 9)])
def test_the_resampling_equals_grid_sample(source):
    generator, n = rng(len(source)), len(source)
    size = (14, 19, 13)[:n]
    image = torch.from_numpy(generator.normal(size=(3, *source))).float()
    label = torch.from_numpy(generator.integers(0, 200, size=(1, *source))).to(torch.uint8)
    matrix = np.eye(n) + generator.normal(scale=0.2, size=(n, n))
    field = torch.from_numpy(generator.normal(scale=0.5, size=(n, *size))).float()
    linear, nearest = resample(image, label, matrix, size, field)
    wanted, codes = reference(image, label, matrix, size, field)
    torch.testing.assert_close(linear.double(), wanted, atol=1e-4, rtol=0)
    assert nearest.dtype == torch.uint8
    assert (nearest != codes).float().mean() < 1e-3  # ties and their rounding


def test_several_slabs_give_the_same_as_one(monkeypatch):
    image = torch.from_numpy(rng().normal(size=(2, 20, 18, 16))).float()
    label = (image[:1] > 0).to(torch.int16)
    matrix = np.array([[0.9, 0.2, 0], [-0.2, 1.1, 0.1], [0, 0.1, 0.8]])
    whole = resample(image, label, matrix, (11, 12, 10))
    monkeypatch.setattr(resampling, "_SLAB", 2 * 12 * 10)
    parts = resample(image, label, matrix, (11, 12, 10))
    assert torch.equal(whole[0], parts[0])
    assert torch.equal(whole[1], parts[1])


def test_a_displacement_by_hand():
    # control points that all move by (2, -1) voxels move every position by as much
    source = torch.arange(100.0).reshape(1, 10, 10)
    displacement = np.stack([np.full((4, 4), 2.0), np.full((4, 4), -1.0)])
    transform = SpatialTransform(None, (), displacement)
    assert transform.source_size((4, 4)) == (10, 8)  # 4 + 2·2 + 2 and 4 + 2·1 + 2
    image, label = transform.apply(source, source.to(torch.int16), (4, 4))
    torch.testing.assert_close(image[0], source[0, 5:9, 2:6], atol=1e-4, rtol=0)
    assert torch.equal(label[0], source[0, 5:9, 2:6].to(torch.int16))


def test_elastic_displacement_is_a_share_of_the_distance_of_control_points():
    # 32 × 16 voxels of 1 × 2 mm are 32 × 32 mm; 4 intervals of 8 mm: at most 0.25 · 8 mm = 2 mm, 2 and 1 voxels
    config = ElasticConfig(probability=1, control_points=(4, 4), displacement=(0.25, 0.25))
    transform = augmenter(2, elastic=config).draw_transform(rng(), (1.0, 2.0), (32, 16))
    assert transform.matrix is None
    assert transform.displacement.shape == (2, 7, 7)
    largest = np.abs(transform.displacement).reshape(2, -1).max(axis=1)
    assert (largest <= [2, 1]).all()
    assert (largest > [1.6, 0.8]).all()  # 49 draws each


@pytest.mark.parametrize(
    ("spacing", "patch", "axis"),
    [((1, 1, 1), (32, 32, 32), None), ((0.5, 0.5, 2), (32, 32, 12), 2), ((1, 1, 1), (8, 32, 32), 0)],
)
def test_volumes_of_thick_slices_are_transformed_within_them(spacing, patch, axis):
    assert thick_axis(spacing, patch) == axis
    config = AffineConfig(probability=1, rotate=40, scale=(0.7, 1.4), shear=0.2, stretch=0.3)
    transform = augmenter(3, affine=config, elastic=BENT).draw_transform(rng(1), spacing, patch)
    fixed = [np.array_equal(transform.matrix[a], np.eye(3)[a]) for a in range(3)]
    assert fixed == [a == axis for a in range(3)]
    assert [not transform.displacement[a].any() for a in range(3)] == fixed
    if axis is not None:
        assert transform.source_size(patch)[axis] == patch[axis] + 2


def test_each_axis_is_stretched_by_its_own_factor():
    engine = augmenter(2, affine=AffineConfig(probability=1, stretch=0.5))
    generator = rng()
    factors = np.array([1 / np.diag(engine.draw_transform(generator, (1.0, 1.0)).matrix) for _ in range(200)])
    assert factors.min() > 1 / 1.5
    assert factors.max() < 1.5
    assert abs(np.corrcoef(factors.T)[0, 1]) < 0.3
