"""Compare medseg and nnU-Net on a trained nnU-Net folder, from file to file: time and agreement.

    .venv/bin/python benchmarks/nnunet.py FOLDER SCAN [SCAN …] --nnunet /path/to/python/with/nnunetv2

A scan is one file, or the files of its channels joined by commas. Both programs use the same model, windows
and number of threads, and no mirroring unless ``--mirror`` is given. Runs alternate; medians are printed.
Without ``--nnunet`` only medseg is timed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from medseg.data.io.readers import read_scan

NNUNET_SCRIPT = """
import sys, torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
folder, source, target, mirror, threads = sys.argv[1:6]
torch.set_num_threads(int(threads))
predictor = nnUNetPredictor(tile_step_size=0.5, use_gaussian=True, use_mirroring=mirror == "1",
    perform_everything_on_device=False, device=torch.device("cpu"), verbose=False, allow_tqdm=False)
folds = [p.name[5:] for p in __import__("pathlib").Path(folder).glob("fold_*")]
folds = tuple(int(f) if f.isdigit() else f for f in folds)
predictor.initialize_from_trained_model_folder(folder, folds, "checkpoint_final.pth")
predictor.predict_from_files_sequential(source, target, save_probabilities=False, overwrite=True)
"""


def run(command: list[str], env: dict[str, str]) -> None:
    """Run one of the programs; if it fails, end with what it printed last."""
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        last = "\n".join((done.stderr or done.stdout).splitlines()[-8:])
        raise SystemExit(f"{command[0]}: ended with exit code {done.returncode}\n{last}")


def run_nnunet(python: Path, folder: Path, source: Path, target: Path, mirror: bool, threads: int) -> float:
    """Run nnU-Net's predictor; returns seconds, including its start."""
    target.mkdir(exist_ok=True)
    began = time.perf_counter()
    command = [
        str(python),
        "-c",
        NNUNET_SCRIPT,
        str(folder),
        str(source),
        str(target),
        str(int(mirror)),
        str(threads),
    ]
    env = {**os.environ, "nnUNet_raw": "/tmp", "nnUNet_preprocessed": "/tmp", "nnUNet_results": "/tmp"}
    run(command, env)
    return time.perf_counter() - began


def run_medseg(
    folder: Path, source: Path, target: Path, mirror: bool, threads: int, backend: list[str]
) -> float:
    """Run ``medseg infer``; returns seconds, including its start."""
    began = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "medseg.infer",
        str(source),
        "--model",
        str(folder),
        "--output",
        str(target),
    ]
    flips = [] if mirror else ["--set", "flips=[]"]
    env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    run([*command, "--overwrite", *flips, *backend], env)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("scans", nargs="+")
    parser.add_argument("--nnunet", type=Path, help="Python executable with nnunetv2 installed")
    parser.add_argument("--mirror", action="store_true")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--backend", default="torch", help="backend of medseg: torch or openvino")
    arguments = parser.parse_args()
    backend = ["--backend", arguments.backend]
    with tempfile.TemporaryDirectory(prefix="medseg-") as name:
        root = Path(name)
        (root / "in").mkdir()
        for number, scan in enumerate(arguments.scans):
            for channel, path in enumerate(map(Path, scan.split(","))):
                shutil.copy(path, root / "in" / f"case{number}_{channel:04}.nii.gz")
        times: dict[str, list[float]] = {"medseg": [], "nnU-Net": []}
        for _ in range(arguments.runs):
            times["medseg"].append(
                run_medseg(
                    arguments.folder, root / "in", root / "medseg", arguments.mirror, arguments.threads, backend
                )
            )
            if arguments.nnunet:
                times["nnU-Net"].append(
                    run_nnunet(
                        arguments.nnunet,
                        arguments.folder,
                        root / "in",
                        root / "nnunet",
                        arguments.mirror,
                        arguments.threads,
                    )
                )
        medians = {program: statistics.median(seconds) for program, seconds in times.items() if seconds}
        for program, seconds in medians.items():
            print(f"{program:8} {seconds:8.1f} s")
        if arguments.nnunet:
            print(f"nnU-Net / medseg {medians['nnU-Net'] / medians['medseg']:.2f}")
            for path in sorted((root / "nnunet").glob("*.nii.gz")):
                one, two = (read_scan(folder / path.name).array for folder in (path.parent, root / "medseg"))
                print(f"{path.name}: {float(np.mean(one == two)):.4%} of voxels agree")


if __name__ == "__main__":
    main()
