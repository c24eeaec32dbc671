"""Class-balanced 96³ patches from a 256×256×128 case: medseg, a uniform crop and MONAI in comparison.

    .venv/bin/python benchmarks/sampler.py

Prints milliseconds per patch (median of interleaved runs), the ratios, and for each class the requested and
the drawn frequency with their difference in standard errors.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medseg.data.augmentation import augmentation_preset
from medseg.data.loading.cache.cached_cases import CachedCase, write_cached_case
from medseg.data.loading.cache.compact_storage import quantize_normalized
from medseg.data.loading.sampling.options import SamplingConfig
from medseg.data.loading.sampling.patch_dataset import PatchDataset
from medseg.data.loading.sampling.patch_sampler import PatchSampler

SHAPE, PATCH, CLASSES = (256, 256, 128), (96, 96, 96), 4
NAMES = tuple(f"class_{k}" for k in range(CLASSES))


def make_case(folder: Path) -> CachedCase:
    """Write a case with four classes: background, a large, a small and a tiny one."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=(1, *SHAPE)).astype(np.float32)
    codes = np.ones(SHAPE, np.uint8)
    codes[40:200, 40:200, 20:100] = 2
    codes[60:90, 60:90, 40:70] = 3
    codes[150:158, 150:158, 60:68] = 4
    return write_cached_case(
        folder / "case", quantize_normalized(image, None) or image, codes, CLASSES, (1.0, 1.0, 1.0)
    )


def dataset(case: CachedCase, share: float) -> PatchDataset:
    """Create a dataset of patches without augmentation; ``share`` of them is forced to contain a class."""
    config = SamplingConfig(patch_size=PATCH, forced_share=share)
    return PatchDataset(
        [case], PatchSampler([case], NAMES, config, seed=0), augmentation_preset("none"), 10_000
    )


def monai_crop(case: CachedCase) -> Callable[[int], Any]:
    """Return MONAI's class-balanced crop, which searches for the voxels of the classes in each sample."""
    from monai.transforms.croppad.dictionary import RandCropByLabelClassesd

    crop = RandCropByLabelClassesd(
        keys=["image", "label"], label_key="label", spatial_size=PATCH, num_classes=CLASSES,
        ratios=[0, 1, 1, 1], num_samples=1, warn=False,
    )  # fmt: skip
    image = torch.from_numpy(np.array(case.image))
    label = torch.from_numpy(np.array(case.label)[None].astype(np.int64) - 1)
    return lambda i: crop({"image": image, "label": label})


def drawn_frequencies(balanced: PatchDataset, draws: int) -> list[tuple[str, float, float, float]]:
    """Return name, requested share, drawn share and the difference in standard errors for each class."""
    counts = np.zeros(CLASSES)
    for position in range(draws):
        class_index = balanced.sampler.draw(0, position).class_index
        if class_index is not None:
            counts[class_index] += 1
    requested, drawn = balanced.sampler.class_probabilities, counts / counts.sum()
    error = np.sqrt(requested * (1 - requested) / counts.sum())
    return [
        (name, a, d, abs(d - a) / e)
        for name, a, d, e in zip(NAMES, requested, drawn, error, strict=True)
        if a > 0
    ]


def main() -> None:
    """Measure the three and count the draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeat", type=int, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        case = make_case(Path(folder))
        uniform, balanced = dataset(case, 0.0), dataset(case, 1.0)
        samplers: dict[str, Callable[[int], Any]] = {
            "uniform crop": uniform.__getitem__,
            "class-balanced": balanced.__getitem__,
            "MONAI, no cached indices": monai_crop(case),
        }
        seconds: dict[str, list[float]] = {name: [] for name in samplers}
        for i in range(-2, options.repeat):
            for name, sample in samplers.items():
                started = time.perf_counter()
                sample(abs(i))
                if i >= 0:
                    seconds[name].append(time.perf_counter() - started)
        median = {name: statistics.median(times) for name, times in seconds.items()}
        for name, value in median.items():
            ratio = value / median["class-balanced"]
            print(f"{name:26} {1000 * value:8.2f} ms   {ratio:6.2f} × the class-balanced patch")
        for name, requested, drawn, errors in drawn_frequencies(balanced, 10_000):
            print(f"{name:26} requested {requested:.3f}, drawn {drawn:.3f}: {errors:.1f} standard errors")


if __name__ == "__main__":
    main()
