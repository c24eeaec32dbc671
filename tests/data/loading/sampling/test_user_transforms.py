import numpy as np
import pytest
import torch
from monai.transforms import RandGaussianNoised, RandRotated

from medseg.data.loading.sampling.user_transforms import apply_transforms
from medseg.errors import ConfigError


def sample():
    return {"image": torch.zeros(1, 8, 8), "label": torch.zeros(1, 8, 8, dtype=torch.int16)}


def test_transforms_follow_one_another_and_draw_from_the_generator_of_the_sample():
    def add(sample):
        sample["image"] = sample["image"] + float(sample["rng"].integers(100))
        return sample

    def double(sample):
        return {"image": sample["image"].double() * 2, "label": sample["label"]}

    changed = apply_transforms(sample(), [add, double], np.random.default_rng(5))
    assert changed.keys() == {"image", "label"}
    assert changed["image"].dtype == torch.float32
    assert changed["image"].unique().tolist() == [2 * int(np.random.default_rng(5).integers(100))]


def test_random_transforms_of_monai_follow_the_seed():
    transforms = [
        RandRotated(keys=["image", "label"], range_x=1.0, prob=1, mode=["bilinear", "nearest"]),
        RandGaussianNoised(keys="image", prob=1),
    ]
    first, again, other = (
        apply_transforms(sample(), transforms, np.random.default_rng(seed))["image"] for seed in (1, 1, 2)
    )
    assert type(first) is torch.Tensor
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (lambda sample: None, "returned NoneType; expected the sample"),
        (lambda sample: {"image": sample["image"]}, "label is NoneType"),
        (lambda sample: {**sample, "image": torch.zeros(1, 4, 4)}, r"image is \(1, 4, 4\).*\(1, 8, 8\)"),
    ],
)
def test_other_results_are_refused(transform, message):
    with pytest.raises(ConfigError, match=message):
        apply_transforms(sample(), [transform], np.random.default_rng(0))
