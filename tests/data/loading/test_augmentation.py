import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.data.loading.augmentation import (
    AffineConfig,
    AugmentConfig,
    Augmenter,
    FlipConfig,
    IntensityConfig,
    SpatialTransform,
    augmentation_preset,
)

STRONG = AffineConfig(probability=1, rotate=40, scale=(0.7, 1.4), shear=0.2)
INTENSITIES = ["noise", "blur", "brightness", "shift", "contrast", "gamma", "low_resolution"]


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
def test_image_and_label_are_transformed_alike(patch, seed):
    engine = augmenter(
        len(patch), affine=STRONG, flip=FlipConfig(probability=0.5, axes=tuple(range(len(patch))))
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
    transform = augmenter(dims, affine=STRONG).draw_transform(rng(seed), spacing)
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


@pytest.mark.parametrize("name", INTENSITIES)
@pytest.mark.parametrize("dims", [2, 3])
def test_each_intensity_change_does_something_and_is_deterministic(name, dims):
    strong = {"noise": {"std": 1}, "brightness": {"low": 0.2, "high": 0.4}, "shift": {"low": 0.2, "high": 0.4}}
    strong |= {"contrast": {"low": 0.2, "high": 0.4}, "low_resolution": {"low": 0.4, "high": 0.6}}
    strong |= {"gamma": {"low": 1.3, "high": 1.5}}
    config = AugmentConfig.model_validate({name: {"probability": 1, **strong.get(name, {})}})
    engine = Augmenter(config, dims)
    image = torch.from_numpy(rng().normal(size=(2, 16, 18, 20)[: dims + 1])).float()
    before = image.clone()
    changed = [engine.apply_intensity(image, rng(seed)) for seed in (1, 1, 2)]
    assert torch.equal(image, before)
    assert type(changed[0]) is torch.Tensor
    assert changed[0].dtype == torch.float32
    assert changed[0].shape == image.shape
    assert not torch.allclose(changed[0], image)
    assert torch.equal(changed[0], changed[1])
    assert not torch.equal(changed[0], changed[2])


def test_brightness_and_contrast_by_hand():
    image = torch.tensor([[[1.0, 3.0], [5.0, 7.0]]])  # mean 4
    half = IntensityConfig(probability=1, low=0.5, high=0.5)
    np.testing.assert_allclose(augmenter(2, brightness=half).apply_intensity(image, rng()), image * 1.5)
    np.testing.assert_allclose(augmenter(2, contrast=half).apply_intensity(image, rng()), 4 + (image - 4) * 1.5)
    np.testing.assert_allclose(augmenter(2, shift=half).apply_intensity(image, rng()), image + 0.5)


def test_gamma_keeps_mean_and_deviation():
    image = torch.from_numpy(rng().normal(3, 2, size=(1, 20, 20))).float()
    gamma = IntensityConfig(probability=1, low=1.4, high=1.5)
    changed = augmenter(2, gamma=gamma).apply_intensity(image, rng())
    assert changed.mean().item() == pytest.approx(image.mean().item(), abs=1e-3)
    assert changed.std().item() == pytest.approx(image.std().item(), abs=1e-3)


@pytest.mark.parametrize("name", ["2d", "3d"])
def test_presets_survive_constant_images_and_pickling(name):
    engine = Augmenter(augmentation_preset(name), int(name[0]))
    image = torch.zeros(1, *(12,) * int(name[0]))
    copy = pickle.loads(pickle.dumps(engine))
    for seed in range(20):
        changed = engine.apply_intensity(image, rng(seed))
        assert torch.isfinite(changed).all()
        assert torch.equal(changed, copy.apply_intensity(image, rng(seed)))


def test_none_changes_nothing():
    engine = Augmenter(augmentation_preset("none"), 3)
    image = torch.from_numpy(rng().normal(size=(1, 4, 4, 4))).float()
    assert torch.equal(engine.apply_intensity(image, rng()), image)
    assert engine.draw_transform(rng(), (1.0, 1.0, 1.0)) == SpatialTransform(None, ())


def test_volumes_are_not_mirrored_unless_asked():
    assert augmentation_preset("3d").flip.probability == 0
    assert augmentation_preset("2d").flip.axes == (0, 1)


def test_nothing_is_drawn_from_the_global_state():
    engine = Augmenter(augmentation_preset("3d"), 3)
    image = torch.zeros(1, 8, 8, 8)
    np.random.seed(3)
    torch.manual_seed(3)
    states = np.random.get_state()[1].copy(), torch.get_rng_state()
    for seed in range(5):
        engine.apply_intensity(image, rng(seed))
        engine.draw_transform(rng(seed), (1.0, 1.0, 1.0))
    assert np.array_equal(np.random.get_state()[1], states[0])
    assert torch.equal(torch.get_rng_state(), states[1])
