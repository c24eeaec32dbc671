"""Augmented 3D patches per second of one pipeline in one process with one thread; used by ``loader.py``.

    PYTHON benchmarks/augmentation.py medseg|monai|nnunet [--patch 64] [--seconds 10] [--always]

The rate is per second of processor time, so that other programs on the machine change it little. The
pipelines draw the same transforms with the same ranges and probabilities, those of nnU-Net 2.8's trainer
(rotation, scaling, noise, blur, brightness, contrast, low resolution, gamma, inverted gamma, mirrors), from
the same volume of 160³ voxels with two classes. ``medseg`` reads it from its cache on disk and draws,
decodes and counts classes as in a training; the others crop an array in memory. ``--always`` applies every
transform to every patch. Only the packages of the chosen pipeline are imported, so that another environment
can run it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
for _name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ.setdefault(_name, tempfile.gettempdir())  # nnU-Net warns without them

import numpy as np  # noqa: E402
import torch  # noqa: E402

SIDE = 160
RESAMPLED = 0.36  # nnU-Net rotates and scales with probability 0.2 each: 1 - 0.8²
PER_CHANNEL = 0.5  # nnU-Net blurs and coarsens each channel of a drawn patch with this probability


def volume() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return an image (1, X, Y, Z) float32 and a label (1, X, Y, Z) uint8."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=(1, SIDE, SIDE, SIDE)).astype(np.float32)
    label = np.zeros(image.shape, np.uint8)
    label[:, 40:90, 40:90, 40:90] = 1
    return image, label


def medseg_pipeline(patch: int, always: bool) -> Callable[[], object]:
    """Samples of ``PatchDataset`` over a cached case."""
    from medseg.data.augmentation import AugmentConfig
    from medseg.data.loading.cache.cached_cases import write_cached_case
    from medseg.data.loading.cache.compact_storage import quantize_normalized
    from medseg.data.loading.sampling.options import SamplingConfig
    from medseg.data.loading.sampling.patch_dataset import PatchDataset
    from medseg.data.loading.sampling.patch_sampler import PatchSampler

    def chance(probability: float, **settings: object) -> dict[str, object]:
        return {"probability": 1.0 if always else probability, **settings}

    augment = AugmentConfig.model_validate(
        {
            "flip": chance(0.5, axes=(0, 1, 2)),
            "affine": chance(RESAMPLED, rotate=30, scale=(0.7, 1.4)),
            "noise": chance(0.1, std=0.1),
            "blur": chance(0.2 * PER_CHANNEL, sigma=(0.5, 1.0)),
            "brightness": chance(0.15, low=-0.25, high=0.25),
            "contrast": chance(0.15, low=-0.25, high=0.25),
            "low_resolution": chance(0.25 * PER_CHANNEL, low=0.5, high=1.0),
            "inverted_gamma": chance(0.1, low=0.7, high=1.5),
            "gamma": chance(0.3, low=0.7, high=1.5),
        }
    )
    image, label = volume()
    with tempfile.TemporaryDirectory() as folder:
        quantized = quantize_normalized(image, None)
        case = write_cached_case(Path(folder) / "case", quantized or image, label[0] + 1, 2, (1.0, 1.0, 1.0))
        sampler = PatchSampler([case], ("background", "organ"), SamplingConfig(patch_size=(patch,) * 3), seed=0)
        dataset = PatchDataset([case], sampler, augment, 1_000_000)
        dataset[0]  # opens the file
    positions = iter(range(1_000_000))
    return lambda: dataset[next(positions)]


def crop(rng: np.random.Generator, size: list[int]) -> tuple[slice, ...]:
    """Draw a region of the volume."""
    starts = [int(rng.integers(SIDE - n + 1)) for n in size]
    return (slice(None), *(slice(start, start + n) for start, n in zip(starts, size, strict=True)))


def monai_pipeline(patch: int, always: bool) -> Callable[[], object]:
    """MONAI's dictionary transforms."""
    import monai.transforms as mt

    def p(probability: float) -> float:
        return 1.0 if always else probability

    angle = np.deg2rad(30)
    both, image_only = ["image", "label"], ["image"]
    steps = [
        mt.RandAffined(
            both,
            prob=p(RESAMPLED),
            rotate_range=(angle,) * 3,
            scale_range=((-0.3, 0.4),) * 3,
            mode=("bilinear", "nearest"),
            padding_mode="zeros",
        ),
        mt.RandGaussianNoised(image_only, prob=p(0.1), std=0.1),
        mt.RandGaussianSmoothd(image_only, *((0.5, 1.0),) * 3, prob=p(0.2 * PER_CHANNEL)),
        mt.RandScaleIntensityd(image_only, (-0.25, 0.25), prob=p(0.15)),
        mt.RandScaleIntensityFixedMeand(image_only, prob=p(0.15), factors=(-0.25, 0.25)),
        mt.RandSimulateLowResolutiond(image_only, prob=p(0.25 * PER_CHANNEL), zoom_range=(0.5, 1.0)),
        mt.RandAdjustContrastd(image_only, prob=p(0.1), gamma=(0.7, 1.5), invert_image=True, retain_stats=True),
        mt.RandAdjustContrastd(image_only, prob=p(0.3), gamma=(0.7, 1.5), retain_stats=True),
        *(mt.RandFlipd(both, prob=p(0.5), spatial_axis=axis) for axis in range(3)),
    ]
    transforms, rng, (image, label) = mt.Compose(steps), np.random.default_rng(0), volume()

    def sample() -> object:
        box = crop(rng, [patch] * 3)
        return transforms({"image": torch.from_numpy(image[box]), "label": torch.from_numpy(label[box])})

    return sample


def nnunet_pipeline(patch: int, always: bool) -> Callable[[], object]:
    """The transforms of nnU-Net's trainer on crops of its initial patch size (batchgeneratorsv2)."""
    from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    angle = (-np.deg2rad(30), np.deg2rad(30))
    transforms = nnUNetTrainer.get_training_transforms((patch,) * 3, angle, None, (0, 1, 2), False)
    if always:
        for step in transforms.transforms:
            for name in ("apply_probability", "p_rotation", "p_scaling"):
                if hasattr(step, name):
                    setattr(step, name, 1.0)
            if hasattr(getattr(step, "transform", None), "p_per_channel"):
                step.transform.p_per_channel = 1.0
    size = [min(int(n), SIDE) for n in get_patch_size([patch] * 3, angle, angle, angle, (0.85, 1.25))]
    rng, (image, label) = np.random.default_rng(0), volume()

    def sample() -> object:
        box = crop(rng, size)
        return transforms(
            image=torch.from_numpy(image[box].copy()),
            segmentation=torch.from_numpy(label[box].astype(np.int16)),
        )

    return sample


PIPELINES = {"medseg": medseg_pipeline, "monai": monai_pipeline, "nnunet": nnunet_pipeline}


def main() -> None:
    """Print the patches per second of one pipeline."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", choices=PIPELINES)
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--always", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    np.random.seed(0)
    torch.manual_seed(0)
    sample = PIPELINES[arguments.pipeline](arguments.patch, arguments.always)
    for _ in range(5):
        sample()
    number, began = 0, time.process_time()
    while time.process_time() - began < arguments.seconds:
        sample()
        number += 1
    print(number / (time.process_time() - began))


if __name__ == "__main__":
    main()
