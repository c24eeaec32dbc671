import pickle

import numpy as np
import pytest
import torch

from medseg.data.augmentation import AugmentConfig, Augmenter, SpatialTransform, augmentation_preset
from medseg.data.augmentation.options import FinalConfig, IntensityConfig, RandomConfig

INTENSITIES = ["noise", "blur", "brightness", "shift", "contrast", "gamma", "low_resolution", "sharpen"]
INTENSITIES += ["inverted_gamma", "bias_field", "illumination", "histogram"]
PRESETS = ["2d", "3d", "2d_robust", "3d_robust"]


def augmenter(dims, **settings):
    return Augmenter(AugmentConfig(**settings), dims)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", INTENSITIES)
@pytest.mark.parametrize("dims", [2, 3])
def test_each_intensity_change_does_something_and_is_deterministic(name, dims):
    strong = {"noise": {"std": 1}, "brightness": {"low": 0.2, "high": 0.4}, "shift": {"low": 0.2, "high": 0.4}}
    strong |= {"contrast": {"low": 0.2, "high": 0.4}, "sharpen": {"low": 0.2, "high": 0.4}}
    strong |= {"low_resolution": {"low": 0.4, "high": 0.6}}
    strong |= {"gamma": {"low": 1.3, "high": 1.5}, "inverted_gamma": {"low": 1.3, "high": 1.5}}
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


@pytest.mark.parametrize("name", PRESETS)
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
    engine = Augmenter(augmentation_preset("3d_robust"), 3)
    image = torch.zeros(1, 8, 8, 8)
    np.random.seed(3)
    torch.manual_seed(3)
    states = np.random.get_state()[1].copy(), torch.get_rng_state()
    for seed in range(5):
        engine.apply_intensity(image, rng(seed))
        engine.draw_transform(rng(seed), (1.0, 1.0, 1.0))
    assert np.array_equal(np.random.get_state()[1], states[0])
    assert torch.equal(torch.get_rng_state(), states[1])


def always(name, **settings):
    return {name: {"probability": 1, **settings}}


def test_channels_draw_their_own_values_by_a_probability():
    image = torch.ones(2, 4, 4)
    for per_channel, equal in ((0.0, True), (1.0, False)):
        config = AugmentConfig.model_validate(
            always("brightness", low=-0.5, high=0.5) | {"per_channel": per_channel}
        )
        first, second = Augmenter(config, 2).apply_intensity(image, rng())
        assert torch.equal(first, second) == equal


def test_inversion_by_hand():
    config = AugmentConfig.model_validate(always("inversion"))
    unit, standardized = torch.tensor([[[0.0, 0.25, 1.0]]]), torch.tensor([[[-1.0, 0.0, 3.0]]])
    assert Augmenter(config, 2).apply_intensity(unit, rng()).tolist() == [[[1.0, 0.75, 0.0]]]
    assert Augmenter(config, 2).apply_intensity(standardized, rng()).tolist() == [[[1.0, 0.0, -3.0]]]


def test_one_of_several_channels_is_dropped():
    engine = Augmenter(AugmentConfig.model_validate(always("channel_dropout")), 3)
    dropped = {
        tuple(engine.apply_intensity(torch.ones(2, 2, 2, 2), rng(i)).sum((1, 2, 3)).tolist()) for i in range(9)
    }
    assert dropped == {(0.0, 8.0), (8.0, 0.0)}
    assert engine.apply_intensity(torch.ones(1, 2, 2, 2), rng()).sum() == 8


def test_a_bias_field_keeps_the_minimum_and_multiplies_what_is_above():
    image = torch.full((1, 16, 16), 2.0)
    image[0, 0, 0] = 1
    config = AugmentConfig.model_validate(always("bias_field", strength=0.5))
    changed = Augmenter(config, 2).apply_intensity(image, rng(1))
    gain = changed[0] - 1
    assert gain[0, 0] == 0
    gain = gain.ravel()[1:].log()
    assert gain.abs().max() <= 0.5
    assert gain.std() > 0.01


def test_the_illumination_is_smooth_and_a_share_of_the_range():
    image = torch.zeros(1, 32, 32)
    image[0, 8:12, 8:12] = 4
    config = AugmentConfig.model_validate(always("illumination", strength=0.25, intervals=1))
    added = Augmenter(config, 2).apply_intensity(image, rng(2)) - image
    assert 0 < added.abs().max() <= 1  # 0.25 · 4
    assert added.diff(dim=1).abs().max() < 0.2
    # a cubic polynomial along each row: its fourth differences vanish
    assert added.double().diff(n=4, dim=2).abs().max() < 1e-4


def test_color_transforms_are_for_pictures_in_rgb():
    config = AugmentConfig.model_validate(
        always("color", hue=90) | always("stain") | always("gray") | always("channel_shuffle")
    )
    picture = torch.from_numpy(rng().uniform(size=(3, 5, 5))).float()
    assert not torch.allclose(Augmenter(config, 2).apply_intensity(picture, rng()), picture)
    assert torch.equal(Augmenter(config, 2, rgb=False).apply_intensity(picture, rng()), picture)
    assert torch.equal(Augmenter(config, 2).apply_intensity(picture[:1], rng()), picture[:1])
    volume = picture[:, None]
    assert torch.equal(Augmenter(config, 3).apply_intensity(volume, rng()), volume)


def test_the_end_of_a_training_leaves_out_transforms():
    config = AugmentConfig(gray=RandomConfig(probability=1), final=FinalConfig(start=0.7, without=("gray",)))
    augmenter = Augmenter(config, spatial_dims=2)
    image = torch.arange(12.0).reshape(3, 2, 2)
    assert not torch.equal(augmenter.apply_intensity(image, np.random.default_rng(0)), image)
    assert augmenter.set_position(0.7)
    assert torch.equal(augmenter.apply_intensity(image, np.random.default_rng(0)), image)
    assert not augmenter.set_position(0.8)
    assert augmenter.set_position(0.2)


def test_only_transforms_can_be_left_out():
    with pytest.raises(ValueError, match="grey is no transform"):
        AugmentConfig(final=FinalConfig(without=("grey",)))
