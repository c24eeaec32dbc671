"""Augmented patches per second: of medseg's loader, and of the pipelines of medseg, MONAI and nnU-Net.

    .venv/bin/python benchmarks/loader.py [--peer-python PYTHON]

The first table has the patches per second with 0, 1 and 2 workers, and the memory of all processes together.
Eight cases of 160³ voxels on disk; balanced and augmented patches of 64³ in batches of 2. Memory is the
proportional set size (Linux): shared pages, such as those of the memory-mapped cases, are counted once. The
private memory (anonymous pages) is the cost of a further worker.

The second table compares pipelines with the same transforms (see ``augmentation.py``), each in two processes of
one thread at the same time, in patches per second of processor time. ``--peer-python`` is the interpreter of an
environment with nnunetv2 and batchgeneratorsv2; without it, nnU-Net is left out. Rounds alternate between the
pipelines; medians are printed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from medseg.data.augmentation import augmentation_preset
from medseg.data.loading.cache.cached_cases import CachedCase, write_cached_case
from medseg.data.loading.cache.compact_storage import quantize_normalized
from medseg.data.loading.loader import LoaderOptions, patch_batches
from medseg.data.loading.sampling.options import SamplingConfig
from medseg.data.loading.sampling.patch_dataset import PatchDataset
from medseg.data.loading.sampling.patch_sampler import PatchSampler

SHAPE, PATCH, BATCH = (160, 160, 160), (64, 64, 64), 2


def make_case(path: Path, seed: int) -> CachedCase:
    """Write a case with two classes."""
    image = np.random.default_rng(seed).normal(size=(1, *SHAPE)).astype(np.float32)
    codes = np.ones(SHAPE, np.uint8)
    codes[40:90, 40:90, 40:90] = 2
    return write_cached_case(path, quantize_normalized(image, None) or image, codes, 2, (1.0, 1.0, 1.0))


def measure(dataset: PatchDataset, workers: int, batches: int) -> tuple[float, float, float]:
    """Return patches per second, and the proportional and private memory (GB) of all processes."""
    stream = patch_batches(dataset, LoaderOptions(BATCH, 0, batches + 4, workers))
    for _ in range(4):  # start the workers and read the pages
        next(stream)
    started = time.perf_counter()
    for _ in range(batches):
        next(stream)
    seconds = time.perf_counter() - started
    total, private = memory()
    del stream
    return batches * BATCH / seconds, total, private


def memory() -> tuple[float, float]:
    """Return the proportional set size and the private memory of this process and its children, GB."""
    processes = [os.getpid(), *children()]
    total = sum(field(pid, "Pss") for pid in processes)
    private = sum(field(pid, "Pss_Anon") for pid in processes)
    return total / 2**20, private / 2**20


def children() -> list[int]:
    """Return the ids of the child processes."""
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return [int(pid) for pid in text.split()]


def field(pid: int, name: str) -> int:
    """Return a field of ``smaps_rollup``, kB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name}:"))


def pipeline_rate(python: str, arguments: list[str], processes: int = 2) -> float:
    """Return the patches per second of a pipeline of ``augmentation.py`` in several processes together."""
    script = Path(__file__).with_name("augmentation.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen([python, str(script), *arguments], stdout=subprocess.PIPE, env=environment, text=True)
        for _ in range(processes)
    ]
    outputs = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise SystemExit(f"{python} {script} {' '.join(arguments)} failed")
    return sum(float(output.split()[-1]) for output in outputs)


def compare(peer_python: str | None, rounds: int, seconds: float) -> None:
    """Print the patches per second of each pipeline and how much faster medseg is."""
    pythons = {"medseg": sys.executable, "monai": sys.executable}
    if peer_python is not None:
        pythons["nnunet"] = peer_python
    print(
        "\npatch  transforms          " + "".join(f"{name:>9}" for name in pythons) + "   medseg is faster by"
    )
    for patch in (64, 128):
        for always in (False, True):
            options = ["--patch", str(patch), "--seconds", str(seconds), *(["--always"] if always else [])]
            rates: dict[str, list[float]] = {name: [] for name in pythons}
            for _ in range(rounds):
                for name, python in pythons.items():
                    rates[name].append(pipeline_rate(python, [name, *options]))
            medians = {name: statistics.median(values) for name, values in rates.items()}
            row = "".join(f"{rate:9.1f}" for rate in medians.values())
            factors = ", ".join(f"{medians['medseg'] / medians[name]:.1f}" for name in list(pythons)[1:])
            print(f"{patch}³{'':4}{'all, every patch' if always else 'as nnU-Net draws':18}{row}   {factors}")


def main() -> None:
    """Write the cases, measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument("--peer-python", help="interpreter of an environment with nnunetv2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="duration of each measurement of a pipeline"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="medseg-loader-") as folder:
        cases = [make_case(Path(folder) / f"case_{i}", i) for i in range(8)]
        sampler = PatchSampler(cases, ("background", "organ"), SamplingConfig(patch_size=PATCH), seed=0)
        print("workers  patches/s  all processes GB  private part GB")
        for workers in (0, 1, 2):
            rate, total, private = measure(
                PatchDataset(cases, sampler, augmentation_preset("3d"), 10_000), workers, arguments.batches
            )
            print(f"{workers:7}  {rate:9.1f}  {total:16.2f}  {private:16.2f}")
    compare(arguments.peer_python, arguments.rounds, arguments.seconds)


if __name__ == "__main__":
    main()
