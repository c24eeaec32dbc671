"""Corrupted files through ``medseg infer``: each is named in failures.csv, or gives a whole map on its grid.

    .venv/bin/python benchmarks/fuzz.py --files 500

Small scans and pictures of every format are truncated, have bits turned, other beginnings, absurd headers, or
unpack to far more than they say. Prints what happened by format, and every file that broke a rule: an exit
other than 0 and 4, a traceback, more than 10 s, an output that is missing or on another grid, a file left
half-written.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
import tifffile
import torch
from PIL import Image

from medseg.data.io.readers import read_scan
from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.normalization import ZScore
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.errors import MedsegError
from medseg.inference.model.model_file import ModelHeader, save_model
from medseg.inference.options import InferenceConfig
from medseg.models import UNetConfig

VOLUMES = (".nii", ".nii.gz", ".nrrd", ".mha", ".npy", ".npz")
PICTURES = (".png", ".jpg", ".bmp", ".tif")
MOST_SECONDS = 10
BATCH = 25


def sound(suffix: str, rng: np.random.Generator, folder: Path) -> bytes:
    """The bytes of a sound file."""
    path = folder / f"sound{suffix}"
    if suffix in PICTURES:
        pixels = rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)
        if suffix == ".tif":
            tifffile.imwrite(path, pixels, photometric="rgb", compression=None)
        else:
            Image.fromarray(pixels).save(path)
        return path.read_bytes()
    voxels = rng.normal(0, 100, (18, 20, 12)).astype(np.int16)
    if suffix.startswith(".nii"):
        nib.Nifti1Image(voxels, np.diag([-1, -1, 2, 1.0])).to_filename(path)
    elif suffix == ".npy":
        np.save(path, voxels)
    elif suffix == ".npz":
        np.savez_compressed(path, image=voxels)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(voxels.T), str(path))
    return path.read_bytes()


def truncated(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(0, len(data)))]


def flipped(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for place in rng.integers(0, len(data), int(rng.integers(1, 20))):
        changed[place] ^= 1 << int(rng.integers(0, 8))
    return bytes(changed)


def absurd(data: bytes, rng: np.random.Generator) -> bytes:
    """The first 512 bytes with words of noise or of extremes in them."""
    inside = data.startswith(b"\x1f\x8b")
    changed = bytearray(gzip.decompress(data) if inside else data)
    for _ in range(int(rng.integers(1, 6))):
        place = int(rng.integers(0, min(512, len(changed)) - 4))
        word = rng.choice(
            [b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x00\x00\xc0\x7f", rng.bytes(4)]
        )
        changed[place : place + 4] = word
    return gzip.compress(bytes(changed)) if inside else bytes(changed)


def other_beginning(data: bytes, rng: np.random.Generator) -> bytes:
    magic = rng.choice(
        [
            b"\x89PNG\r\n\x1a\n",
            b"II*\x00",
            b"\x1f\x8b\x08\x00",
            b"NRRD0005\n",
            b"\xff\xd8\xff\xe0",
            b"PK\x03\x04",
            b"",
        ]
    )
    return bytes(magic) + data[len(magic) :]


def bomb(data: bytes, rng: np.random.Generator) -> bytes:
    """A sound gzip file that goes on for 300 MB of zeros; other formats have noise at their end."""
    if not data.startswith(b"\x1f\x8b"):
        return data + rng.bytes(4096)
    return gzip.compress(gzip.decompress(data) + bytes(300 * 2**20), compresslevel=1)


HARMS: tuple[Callable[[bytes, np.random.Generator], bytes], ...] = (
    truncated, flipped, absurd, other_beginning, flipped, absurd, truncated, bomb,
)  # fmt: skip


def make_files(folder: Path, count: int, seed: int) -> list[Path]:
    """Corrupted files, formats and harms taking turns."""
    rng = np.random.default_rng(seed)
    formats = [*VOLUMES, *PICTURES]
    files: list[Path] = []
    for i in range(count):
        suffix = formats[i % len(formats)]
        kind = "pictures" if suffix in PICTURES else "volumes"
        harm = HARMS[(i // len(formats)) % len(HARMS)]
        path = folder / kind / f"f{i:04}_{harm.__name__}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(harm(sound(suffix, rng, folder), rng))
        files.append(path)
    return files


def make_model(path: Path, dims: int) -> Path:
    """A tiny network with random weights."""
    header = ModelHeader(
        spatial_dims=3 if dims == 3 else 2,
        channels=1 if dims == 3 else 3,
        labels=LabelSchema(names={"no": (0,), "yes": (1,)}),
        preprocess=PreprocessConfig(normalize=ZScore()),
        inference=InferenceConfig(roi_size=(16,) * dims if dims == 3 else (32, 32), overlap=0.25),
        model=UNetConfig(channels=(2, 4)),
    )
    torch.manual_seed(0)
    save_model(path, header, dict(header.model.build(header.task).state_dict()))
    return path


def run_batch(files: list[Path], model: Path, output: Path) -> tuple[dict[str, str], list[str]]:
    """The status of each file, and the rules that were broken."""
    command = [sys.executable, "-m", "medseg.infer", *map(str, files), "--model", str(model)]
    limit = 60 + MOST_SECONDS * len(files)
    try:
        done = subprocess.run(
            [*command, "--output", str(output), "--json", "--device", "cpu"],
            capture_output=True, text=True, timeout=limit, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {}, [f"{files[0].name} and {len(files) - 1} more: no end within {limit} s"]
    broken: list[str] = []
    if done.returncode not in (0, 4):
        broken.append(f"{files[0].name} …: exit {done.returncode}: {done.stderr.strip()[-300:]}")
        return {}, broken
    if "Traceback" in done.stderr:
        broken.append(f"{files[0].name} …: a traceback")
    cases = {case["case"]: case for case in json.loads(done.stdout)["cases"]}
    failures = output / "failures.csv"
    named = (
        {row["case"] for row in csv.DictReader(failures.open(encoding="utf-8"))}
        if failures.is_file()
        else set()
    )
    for file in files:
        broken += judge(file, cases, named)
    left = [p.name for p in output.rglob("*") if p.is_file() and ("tmp" in p.suffix or p.name.startswith("."))]
    broken += [f"left behind: {name}" for name in left]
    return {name: case["status"] for name, case in cases.items()}, broken


def judge(file: Path, cases: dict[str, dict[str, object]], named: set[str]) -> list[str]:
    """The rules that one file's outcome breaks."""
    name = file.name.split(".")[0]
    case = cases.get(name)
    if case is None:
        return [f"{file.name}: has no outcome"]
    broken = []
    if float(str(case["seconds"])) > MOST_SECONDS:
        broken.append(f"{file.name}: took {case['seconds']} s")
    if case["status"] == "failed":
        return broken if name in named else [*broken, f"{file.name}: failed, but failures.csv does not name it"]
    try:
        shapes = [read_scan(Path(str(path))).grid.shape for path in (case["output"], file)]
    except MedsegError as error:
        return [*broken, f"{file.name}: its output cannot be read: {error}"]
    return broken if shapes[0] == shapes[1] else [*broken, f"{file.name}: output {shapes[0]}, scan {shapes[1]}"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="medseg-fuzz-") as name:
        root = Path(name)
        files = make_files(root / "in", given.files, given.seed)
        outcomes: Counter[tuple[str, str]] = Counter()
        broken: list[str] = []
        for kind, dims in (("volumes", 3), ("pictures", 2)):
            model = make_model(root / f"{kind}.safetensors", dims)
            chosen = [file for file in files if file.parent.name == kind]
            for first in range(0, len(chosen), BATCH):
                batch = chosen[first : first + BATCH]
                found, rules = run_batch(batch, model, root / "out" / f"{kind}{first}")
                outcomes.update(
                    (file.name.partition(".")[2], found.get(file.name.split(".")[0], "none")) for file in batch
                )
                broken += rules
    for (suffix, status), count in sorted(outcomes.items()):
        print(f"{suffix:8} {status:8} {count}")
    print(f"{given.files} files, {len(broken)} broken rules", *broken, sep="\n  ")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
