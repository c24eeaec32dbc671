"""Corrupted files as input of ``medseg infer``: each is listed in failures.csv or yields a complete label map.

    .venv/bin/python benchmarks/fuzz.py --files 500

Small scans and pictures of every format are truncate, or get flipped bits, other magic bytes, absurd headers,
or more content than declared. Prints the outcomes by format and every file that violates a rule: an exit status
other than 0 and 4, a traceback, more than 10 s, an output that is missing or on another grid, or an incomplete
file left behind.
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
MAX_SECONDS = 10
BATCH = 25


def valid_file(suffix: str, rng: np.random.Generator, folder: Path) -> bytes:
    """Return the bytes of a valid file."""
    path = folder / f"valid{suffix}"
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


def truncate(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(0, len(data)))]


def flip_bits(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for place in rng.integers(0, len(data), int(rng.integers(1, 20))):
        changed[place] ^= 1 << int(rng.integers(0, 8))
    return bytes(changed)


def absurd_header(data: bytes, rng: np.random.Generator) -> bytes:
    """Replace words of the first 512 bytes by noise or extreme values."""
    inside = data.startswith(b"\x1f\x8b")
    changed = bytearray(gzip.decompress(data) if inside else data)
    for _ in range(int(rng.integers(1, 6))):
        place = int(rng.integers(0, min(512, len(changed)) - 4))
        word = rng.choice(
            [b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x00\x00\xc0\x7f", rng.bytes(4)]
        )
        changed[place : place + 4] = word
    return gzip.compress(bytes(changed)) if inside else bytes(changed)


def replace_magic(data: bytes, rng: np.random.Generator) -> bytes:
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
    """Append 300 MB of zeros to the content of a gzip file; append noise to other formats."""
    if not data.startswith(b"\x1f\x8b"):
        return data + rng.bytes(4096)
    return gzip.compress(gzip.decompress(data) + bytes(300 * 2**20), compresslevel=1)


CORRUPTIONS: tuple[Callable[[bytes, np.random.Generator], bytes], ...] = (
    truncate, flip_bits, absurd_header, replace_magic, flip_bits, absurd_header, truncate, bomb,
)  # fmt: skip


def make_files(folder: Path, count: int, seed: int) -> list[Path]:
    """Write corrupted files, cycling through formats and corruptions."""
    rng = np.random.default_rng(seed)
    formats = [*VOLUMES, *PICTURES]
    files: list[Path] = []
    for i in range(count):
        suffix = formats[i % len(formats)]
        kind = "pictures" if suffix in PICTURES else "volumes"
        corrupt = CORRUPTIONS[(i // len(formats)) % len(CORRUPTIONS)]
        path = folder / kind / f"f{i:04}_{corrupt.__name__}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(corrupt(valid_file(suffix, rng, folder), rng))
        files.append(path)
    return files


def make_model(path: Path, dims: int) -> Path:
    """Write a tiny network with random weights."""
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
    """Return the status of each file and the violated rules."""
    command = [sys.executable, "-m", "medseg.infer", *map(str, files), "--model", str(model)]
    limit = 60 + MAX_SECONDS * len(files)
    try:
        done = subprocess.run(
            [*command, "--output", str(output), "--json", "--device", "cpu"],
            capture_output=True, text=True, timeout=limit, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {}, [f"{files[0].name} and {len(files) - 1} more: no end within {limit} s"]
    violations: list[str] = []
    if done.returncode not in (0, 4):
        violations.append(f"{files[0].name} …: exit {done.returncode}: {done.stderr.strip()[-300:]}")
        return {}, violations
    if "Traceback" in done.stderr:
        violations.append(f"{files[0].name} …: a traceback")
    cases = {case["case"]: case for case in json.loads(done.stdout)["cases"]}
    failures = output / "failures.csv"
    named = (
        {row["case"] for row in csv.DictReader(failures.open(encoding="utf-8"))}
        if failures.is_file()
        else set()
    )
    for file in files:
        violations += judge(file, cases, named)
    left = [p.name for p in output.rglob("*") if p.is_file() and ("tmp" in p.suffix or p.name.startswith("."))]
    violations += [f"left behind: {name}" for name in left]
    return {name: case["status"] for name, case in cases.items()}, violations


def judge(file: Path, cases: dict[str, dict[str, object]], named: set[str]) -> list[str]:
    """Return the rules that the outcome of a file violates."""
    name = file.name.split(".")[0]
    case = cases.get(name)
    if case is None:
        return [f"{file.name}: has no outcome"]
    violations = []
    if float(str(case["seconds"])) > MAX_SECONDS:
        violations.append(f"{file.name}: took {case['seconds']} s")
    if case["status"] == "failed":
        return (
            violations
            if name in named
            else [*violations, f"{file.name}: failed, but failures.csv does not name it"]
        )
    try:
        shapes = [read_scan(Path(str(path))).grid.shape for path in (case["output"], file)]
    except MedsegError as error:
        return [*violations, f"{file.name}: its output cannot be read: {error}"]
    return (
        violations
        if shapes[0] == shapes[1]
        else [*violations, f"{file.name}: output {shapes[0]}, scan {shapes[1]}"]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="medseg-fuzz-") as name:
        root = Path(name)
        files = make_files(root / "in", arguments.files, arguments.seed)
        outcomes: Counter[tuple[str, str]] = Counter()
        violations: list[str] = []
        for kind, dims in (("volumes", 3), ("pictures", 2)):
            model = make_model(root / f"{kind}.safetensors", dims)
            chosen = [file for file in files if file.parent.name == kind]
            for first in range(0, len(chosen), BATCH):
                batch = chosen[first : first + BATCH]
                statuses, rules = run_batch(batch, model, root / "out" / f"{kind}{first}")
                outcomes.update(
                    (file.name.partition(".")[2], statuses.get(file.name.split(".")[0], "none"))
                    for file in batch
                )
                violations += rules
    for (suffix, status), count in sorted(outcomes.items()):
        print(f"{suffix:8} {status:8} {count}")
    print(f"{arguments.files} files, {len(violations)} violations", *violations, sep="\n  ")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
