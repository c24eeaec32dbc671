"""A picture of 40,000 × 40,000 pixels through a tiny network: memory and minutes.

    .venv/bin/python benchmarks/large_image.py [--size 40000] [--folder DIR]

Makes a tiled RGB TIFF tile by tile (patches of tissue on bright glass, with noise) and a small U-Net with
random weights in a temporary folder, runs ``medseg infer`` on them in a child process with one thread, and
prints its time and the most resident memory it held (Linux). Statistics are those of the whole picture
(zscore), so it is read twice.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
import torch

from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.inference.model.model_file import ModelHeader, save_model
from medseg.inference.options import InferenceConfig
from medseg.models import UNetConfig

TILE = 512


def main() -> None:
    """Make the files, run, print a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=40_000, help="pixels a side")
    parser.add_argument("--skip", action="store_true", help="leave windows of glass out")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="medseg-large-", dir=arguments.folder) as name:
        folder = Path(name)
        began = time.perf_counter()
        make_picture(folder / "slide.tif", arguments.size)
        make_model(folder / "model.safetensors")
        made = time.perf_counter()
        skip = ["--set", "skip_above=235"] if arguments.skip else []
        command = [
            sys.executable, "-m", "medseg", "infer", str(folder / "slide.tif"), "--device", "cpu", "--model",
            str(folder / "model.safetensors"), "--output", str(folder / "out"), "--set", "large_above=0", *skip,
        ]  # fmt: skip
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        minutes = (time.perf_counter() - made) / 60
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        sizes = [(folder / place).stat().st_size / 2**20 for place in ("slide.tif", "out/slide.tif")]
        print(f"{arguments.size} × {arguments.size}: {minutes:.1f} minutes, {peak:.2f} GiB resident at most")
        print(f"picture {sizes[0]:.0f} MiB (made in {made - began:.0f} s), label map {sizes[1]:.0f} MiB")


def make_picture(path: Path, size: int) -> None:
    """A tiled RGB TIFF, deflated."""
    shape = (size, size, 3)
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(
            tiles(size), shape=shape, dtype=np.uint8, tile=(TILE, TILE), compression="zlib",
            photometric="rgb", metadata=None,
        )  # fmt: skip


def tiles(size: int) -> Iterator[bytes]:
    """Compressed tiles, of eight kinds; half of the picture is glass."""
    rng = np.random.default_rng(0)
    kinds = []
    for _ in range(8):
        colors = rng.integers(60, 200, (TILE // 32, TILE // 32, 3))
        tissue = np.kron(colors, np.ones((32, 32, 1))) + rng.integers(0, 16, (TILE, TILE, 3))
        kinds.append(zlib.compress(tissue.astype(np.uint8).tobytes(), 1))
    glass = zlib.compress(rng.integers(240, 250, (TILE, TILE, 3)).astype(np.uint8).tobytes(), 1)
    across = -(-size // TILE)
    for row in range(across):
        for column in range(across):
            inside = (row // 8 + column // 8) % 2
            yield kinds[int(rng.integers(8))] if inside else glass


def make_model(path: Path) -> None:
    """A U-Net of two levels, random weights, windows of 512² that overlap by a quarter."""
    torch.manual_seed(0)
    header = ModelHeader(
        spatial_dims=2,
        channels=3,
        labels=LabelSchema(names={"glass": (0,), "tissue": (1,), "tumor": (2,)}),
        preprocess=PreprocessConfig(),
        inference=InferenceConfig(roi_size=(512, 512), overlap=0.25),
        model=UNetConfig(channels=(4, 8)),
    )
    save_model(path, header, header.model.build(header.task).state_dict())


if __name__ == "__main__":
    main()
