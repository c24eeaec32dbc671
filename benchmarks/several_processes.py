"""Patches per second of a training by one process and by two of torchrun (gloo), on the same two cores.

    .venv/bin/python benchmarks/several_processes.py [--cores 0,1] [--updates 8] [--rounds 3]

Eight synthetic volumes of 64³ voxels; a U-Net of 16 to 128 channels on patches of 48³, 4 in a batch, float32.
Rows: one process with one thread, one process with two threads, two processes with one thread each. Each round
trains all of them once, alternating (3 minutes); the first epoch (start of workers, memory) does not count.
The median over rounds is printed, and how far the losses of the last epoch differ.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from medseg.config.schema import load_config, to_yaml

BATCH, PATCH, SIDE, EPOCHS = 4, (48, 48, 48), 64, 3


@dataclass(frozen=True)
class Setup:
    """One row of the table."""

    name: str
    processes: int
    threads: int


SETUPS = (
    Setup("1 process, 1 thread", 1, 1),
    Setup("1 process, 2 threads", 1, 2),
    Setup("2 processes, 1 thread each", 2, 1),
)


def write_cases(root: Path) -> None:
    """Write volumes with a bright ball."""
    grid = np.stack(np.meshgrid(*[np.arange(SIDE)] * 3, indexing="ij"))
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for i in range(8):
        rng = np.random.default_rng(i)
        center = rng.uniform(20, SIDE - 20, 3).reshape(3, 1, 1, 1)
        label = (((grid - center) ** 2).sum(axis=0) < 15**2).astype(np.uint8)
        image = (100 * label + rng.normal(0, 20, label.shape)).astype(np.int16)
        for folder, voxels in (("images", image), ("labels", label)):
            nib.save(nib.Nifti1Image(voxels, np.eye(4)), root / folder / f"ball_{i}.nii.gz")


def write_settings(root: Path, updates: int) -> Path:
    """Write the configuration file of all trainings."""
    raw = {
        "data": {
            "path": str(root / "data"),
            "labels": {"background": 0, "ball": 1},
            "cache": str(root / "cache"),
            "workers": 0,
        },
        "sampling": {"patch_size": list(PATCH)},
        "model": {"name": "unet", "channels": [16, 32, 64, 128]},
        "train": {
            "epochs": EPOCHS, "iterations": updates, "batch_size": BATCH, "amp": "off", "device": "cpu",
            "validate_cases": 1,
        },
    }  # fmt: skip
    path = root / "config.yaml"
    path.write_text(to_yaml(load_config(raw)), encoding="utf-8")
    return path


def train(setup: Setup, config: Path, run: Path, cores: set[int]) -> tuple[float, float]:
    """Train once; return patches per second after the first epoch, and the loss of the last one."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(setup.processes)]
    subprocess.run(
        [sys.executable, *launcher, "-m", "medseg.train", str(config), "--run-folder", str(run),
         f"train.threads={setup.threads}"],
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": str(setup.threads)},
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )  # fmt: skip
    log = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    updates = log[-1]["step"] - log[0]["step"]
    return updates * BATCH / sum(entry["seconds"] for entry in log[1:]), log[-1]["loss"]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", default="0,1", help="the cores that each training uses")
    parser.add_argument("--updates", type=int, default=8, help="updates in an epoch")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cores = {int(core) for core in options.cores.split(",")}
    speeds: dict[str, list[float]] = {setup.name: [] for setup in SETUPS}
    losses: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_cases(root / "data")
        config = write_settings(root, options.updates)
        for number in range(options.rounds):
            for setup in SETUPS:
                run = root / f"{setup.processes}_{setup.threads}_{number}"
                speed, losses[setup.name] = train(setup, config, run, cores)
                speeds[setup.name].append(speed)
                print(f"{setup.name}: {speed:.2f} patches/s", file=sys.stderr, flush=True)
    reference = statistics.median(speeds[SETUPS[0].name])
    print(f"| cores {options.cores} | patches/s (range) | relative | loss of the last epoch |")
    print("|---|---|---|---|")
    for name, values in speeds.items():
        median = statistics.median(values)
        spread = f"{median:.2f} ({min(values):.2f}–{max(values):.2f})"
        print(f"| {name} | {spread} | {median / reference:.2f} | {losses[name]:.6f} |")


if __name__ == "__main__":
    main()
