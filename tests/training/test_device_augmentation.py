"""Intensity augmentation on the device gives the images of the worker processes."""

import numpy as np
import pytest
import torch
from conftest import ball_settings

from medseg.config.schema import load_config
from medseg.data.augmentation import AugmentConfig, Augmenter, augmentation_preset
from medseg.data.loading.generator_state import pack_generator, unpack_generator
from medseg.data.loading.sampling.patch_dataset import GENERATOR
from medseg.errors import ConfigError
from medseg.inference.model.model_file import load_model
from medseg.progress import QuietProgress
from medseg.training.device_augmentation import DeviceAugmentation
from medseg.training.fit import fit


def test_the_state_of_a_generator_is_kept():
    rng = np.random.default_rng([1, 2, 3])
    rng.integers(10, dtype=np.uint32)  # keeps half of a 64-bit number
    copy = unpack_generator(pack_generator(rng))
    one, two = (generator.integers(10, size=5, dtype=np.uint32).tolist() for generator in (copy, rng))
    assert one == two


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_training_is_the_same(balls, tmp_path, workers):
    plain = ["augment=3d_robust", "augment.style.probability=0", "augment.cutmix.probability=0"]
    for where, count in (("workers", 0), ("device", workers)):
        settings = ball_settings(balls, iterations=3, epochs=1, augment_on=where)
        config = load_config(settings, [f"data.workers={count}", *plain])
        fit(config, tmp_path / where, progress=QuietProgress())
    one, two = (load_model(tmp_path / where / "model.safetensors")[1] for where in ("workers", "device"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_masks_stay_as_they_are():
    augmenter = Augmenter(augmentation_preset("3d").model_copy(update={"brightness": _always()}), 3)
    images = torch.rand(2, 3, 6, 6, 6)
    states = torch.stack([pack_generator(np.random.default_rng(i)) for i in range(2)])
    changed = DeviceAugmentation(augmenter, torch.device("cpu"), masks=2).augment(
        {"image": images.clone(), GENERATOR: states}
    )
    assert torch.equal(changed["image"][:, 1:], images[:, 1:])
    assert not torch.equal(changed["image"][:, 0], images[:, 0])
    alone = augmenter.apply_intensity(images[1, :1], np.random.default_rng(1))
    assert torch.equal(changed["image"][1, :1], alone)


def _always():
    return AugmentConfig().brightness.model_copy(update={"probability": 1.0, "low": 0.1, "high": 0.5})


def test_what_needs_a_second_sample_is_refused(balls, tmp_path):
    config = load_config(ball_settings(balls, augment_on="device"), ["augment.cutmix.probability=0.5"])
    with pytest.raises(ConfigError, match=r"not possible with augment\.cutmix"):
        fit(config, tmp_path / "run", progress=QuietProgress())
