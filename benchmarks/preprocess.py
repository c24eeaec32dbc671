"""Statistics and preprocessing of CTs and of thousands of tiny pictures: seconds, peak memory and size on disk.

    .venv/bin/python benchmarks/preprocess.py

Each line is measured in a separate process; "again" is a second run, with everything in the cache. Memory is
the peak of the process minus its memory before the run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

from medseg.data.cases import Case
from medseg.data.curation.case_statistics import collect_statistics
from medseg.data.labels.schema import LabelSchema
from medseg.data.loading.cache.cached_cases import cache_cases
from medseg.data.loading.cache.settings import CacheSettings
from medseg.data.preprocessing.normalization import CT, ZScore
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.system.platform import peak_memory

WINDOW = CT(low=-160, high=240, mean=60, std=50)
SETTINGS = {
    "ct": PreprocessConfig(normalize=WINDOW),
    "ct resampled to 1 mm": PreprocessConfig(normalize=WINDOW, spacing=(1.0, 1.0, 1.0)),
    "zscore": PreprocessConfig(normalize=ZScore()),
    "tiny pictures": PreprocessConfig(normalize=ZScore()),
}


def make_cts(root: Path, number: int, size: tuple[int, int, int]) -> None:
    """Write volumes of air, tissue and noise with an organ and a lesion; spacing 0.8 × 0.8 × 2.5 mm."""
    for i in range(number):
        rng = np.random.default_rng(i)
        voxels = rng.normal(40, 15, size).astype(np.int16)
        edge = size[0] // 8
        for outside in (np.s_[:edge], np.s_[-edge:], np.s_[:, :edge], np.s_[:, -edge:]):
            voxels[outside] = -1000 + voxels[outside] // 8
        label = np.zeros(size, np.uint8)
        label[tuple(slice(n // 4, n // 2) for n in size)] = 1
        label[tuple(slice(n // 3, n // 3 + 8) for n in size)] = 2
        for folder, array in (("images", voxels + 100 * label.astype(np.int16)), ("labels", label)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.diag([0.8, 0.8, 2.5, 1])), root / folder / f"ct_{i:04}.nii.gz")


def make_pictures(root: Path, number: int) -> None:
    """Write pictures of 64 × 64 pixels."""
    rng = np.random.default_rng(0)
    for i in range(number):
        label = np.zeros((64, 64), np.uint8)
        label[8:20, 8:30], label[40:50, 40:50] = 1, 2
        image = (rng.integers(0, 60, (64, 64)) + 80 * label).astype(np.uint8)
        for folder, array in (("images", image), ("labels", label)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / folder / f"picture_{i:05}.png")


def measure(root: Path, name: str) -> None:
    """Prepare everything twice and print one line."""
    images = sorted((root / "images").iterdir())
    cases = [Case(path.name.split(".")[0], path, root / "labels" / path.name) for path in images]
    labels = LabelSchema(names={"background": (0,), "organ": (1,), "lesion": (2,)})
    settings = CacheSettings(labels, SETTINGS[name], 1)
    idle = peak_memory() or 0
    with tempfile.TemporaryDirectory(dir=root) as temporary:
        folder = Path(temporary)
        seconds: list[float] = []
        for _ in range(2):
            started = time.perf_counter()
            statistics = collect_statistics(cases, folder / "statistics")
            middle = time.perf_counter()
            cache_cases(cases, statistics, settings, folder)
            seconds += [middle - started, time.perf_counter() - middle]
        size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    disk, memory = size / 2**20, ((peak_memory() or 0) - idle) / 2**20
    print(
        f"{name:22} {len(cases):5} cases  measured {seconds[0]:7.2f} s  prepared {seconds[1]:7.2f} s  "
        f"again {seconds[2] + seconds[3]:6.2f} s  on disk {disk:7.1f} MiB  memory {memory:6.0f} MiB"
    )


def main() -> None:
    """Write the cases and measure each setting in a separate process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=3, default=[512, 512, 100], help="voxels of a CT")
    parser.add_argument("--cts", type=int, default=2)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(Path(options.one[0]), options.one[1])
        return
    with tempfile.TemporaryDirectory(prefix="medseg-preprocess-") as temporary:
        root = Path(temporary)
        make_cts(root / "cts", options.cts, tuple(options.size))
        make_pictures(root / "pictures", options.pictures)
        for name in SETTINGS:
            data = root / ("pictures" if name == "tiny pictures" else "cts")
            subprocess.run([sys.executable, __file__, "--one", str(data), name], check=True)


if __name__ == "__main__":
    main()
