"""Metrics of five structures: medseg, MONAI and, if installed, surface-distance; worst cases of medseg.

    .venv/bin/python benchmarks/metrics.py            # 192×192×64
    .venv/bin/python benchmarks/metrics.py --full     # 512×512×128, minutes for MONAI
    .venv/bin/python benchmarks/metrics.py --worst    # noise, full and distant masks of 512×512×128, minutes

Prints the median processor time of each library on one thread, its ratio to the time of medseg, and the HD95 of
each label.
``surface`` and ``every_group`` have the signature (reference, prediction, labels, spacing, tolerance).
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import resource
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from medseg.metrics import MeasureOptions, measure_case

SPACING = (0.7, 0.7, 2.5)  # mm
TOLERANCE = 2.0  # mm


def volumes(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return five ellipsoids, and the same slightly moved and scaled, one with a distant false positive."""
    rng = np.random.default_rng(0)
    grid = np.meshgrid(*[np.linspace(0, 1, n) for n in shape], indexing="ij", sparse=True)
    reference, prediction = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)

    def add_ball(volume: np.ndarray, label: int, center: np.ndarray, radius: float) -> None:
        distance = sum((g - c) ** 2 for g, c in zip(grid, center, strict=True))
        volume[distance < radius**2] = label

    for label, radius in enumerate((0.2, 0.14, 0.1, 0.08, 0.04), start=1):
        center = rng.uniform(0.25, 0.75, 3)
        add_ball(reference, label, center, radius)
        add_ball(prediction, label, center + rng.normal(0, 0.01, 3), radius * rng.uniform(0.95, 1.05))
    add_ball(prediction, 5, np.array([0.9, 0.9, 0.9]), 0.03)
    return reference, prediction


def surface(
    reference: np.ndarray, prediction: np.ndarray, labels: Sequence[int], spacing: Sequence[float], tau: float
) -> dict[int, dict[str, float]]:
    """Return all boundary metrics of each label, among them hd95, assd and nsd."""
    return _measure(reference, prediction, labels, spacing, MeasureOptions(tau, groups=("boundary",)))


def every_group(
    reference: np.ndarray, prediction: np.ndarray, labels: Sequence[int], spacing: Sequence[float], tau: float
) -> dict[int, dict[str, float]]:
    """Return the overlap, boundary and lesion metrics of each label."""
    options = MeasureOptions(tau, groups=("overlap", "boundary", "lesions"))
    return _measure(reference, prediction, labels, spacing, options)


def _measure(
    reference: np.ndarray,
    prediction: np.ndarray,
    labels: Sequence[int],
    spacing: Sequence[float],
    options: MeasureOptions,
) -> dict[int, dict[str, float]]:
    rows = measure_case(reference, prediction, {str(k): (k,) for k in labels}, spacing, options)
    scores = ({k: v for k, v in row.items() if k not in ("label", "name")} for row in rows)
    return dict(zip(labels, scores, strict=True))


def with_medseg(reference: np.ndarray, prediction: np.ndarray) -> list[float]:
    """Return the HD95 of each label; also computes all other boundary metrics."""
    rows = surface(reference, prediction, range(1, 6), SPACING, TOLERANCE)
    return [row["hd95"] for row in rows.values()]


def with_every_group(reference: np.ndarray, prediction: np.ndarray) -> list[float]:
    """Return the HD95 of each label; also computes all overlap, boundary and lesion metrics."""
    rows = every_group(reference, prediction, range(1, 6), SPACING, TOLERANCE)
    return [row["hd95"] for row in rows.values()]


def with_monai(reference: np.ndarray, prediction: np.ndarray) -> list[float]:
    """Return the HD95 of each label by MONAI, on one-hot tensors; also computes ASSD and NSD."""
    import torch
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.surface_dice import compute_surface_dice
    from monai.metrics.surface_distance import compute_average_surface_distance

    torch.set_num_threads(1)
    hot = [torch.from_numpy(np.stack([v == k for k in range(6)])[None]) for v in (prediction, reference)]
    hd95 = compute_hausdorff_distance(*hot, percentile=95, spacing=SPACING)
    compute_average_surface_distance(*hot, symmetric=True, spacing=SPACING)
    compute_surface_dice(*hot, class_thresholds=[TOLERANCE] * 5, spacing=SPACING)
    return hd95[0].tolist()


def with_surface_distance(reference: np.ndarray, prediction: np.ndarray) -> list[float]:
    """Return the HD95 of each label by DeepMind's surface-distance; also computes ASSD and NSD."""
    import surface_distance

    hd95 = []
    for k in range(1, 6):
        distances = surface_distance.compute_surface_distances(reference == k, prediction == k, SPACING)
        hd95.append(surface_distance.compute_robust_hausdorff(distances, 95))
        surface_distance.compute_average_surface_distance(distances)
        surface_distance.compute_surface_dice_at_tolerance(distances, TOLERANCE)
    return hd95


def worst_cases() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield pairs of masks that are hard for a search of the nearest surface."""
    shape = (512, 512, 128)
    rng = np.random.default_rng(0)
    noise, other = (rng.random(shape, np.float32) < 0.5 for _ in range(2))
    full, corner, left, right = (np.zeros(shape, np.uint8) for _ in range(4))
    full[:], corner[0, 0, 0] = 1, 1
    left[:128], right[384:] = noise[:128], other[384:]
    ball = np.zeros(shape, np.uint8)
    grid = np.ogrid[:512, :512, :128]
    ball[sum(((g - n / 2) / (n / 2.1)) ** 2 for g, n in zip(grid, shape, strict=True)) < 1] = 1
    center = np.zeros(shape, np.uint8)
    center[236:276, 236:276, 54:74] = 1
    yield "noise, noise", noise.view(np.uint8), other.view(np.uint8)
    yield "noise, full", noise.view(np.uint8), full
    yield "full, one voxel", full, corner
    yield "noise apart", left, right
    yield "ball, its center", ball, center


def measure_worst(name: str, reference: np.ndarray, prediction: np.ndarray) -> None:
    """Print time and memory of one pair; runs in a process of its own."""
    options = MeasureOptions(TOLERANCE, groups=("overlap", "boundary", "lesions"))
    measure_case(reference[:8], prediction[:8], {"x": [1]}, SPACING, options)  # imports
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    row = measure_case(reference, prediction, {"x": [1]}, SPACING, options)[0]
    seconds = time.perf_counter() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    print(f"{name:18} {seconds:7.1f} s   {grown:5.2f} GB more   HD95 {row['hd95']:.2f}", flush=True)


def main() -> None:
    """Time all libraries on the same volumes, or the worst cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--worst", action="store_true")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.worst:
        for case in worst_cases():
            process = multiprocessing.get_context("fork").Process(target=measure_worst, args=case)
            process.start()
            process.join()
        return
    compare((512, 512, 128) if options.full else (192, 192, 64), options.repeat)


def compare(shape: tuple[int, int, int], repeat: int) -> None:
    """Print the median times of all libraries."""
    pair = volumes(shape)
    libraries: dict[str, Callable[..., Any]] = {
        "medseg": with_medseg,
        "medseg, all": with_every_group,
        "MONAI": with_monai,
    }
    if importlib.util.find_spec("surface_distance"):
        libraries["surface-distance"] = with_surface_distance
    seconds: dict[str, list[float]] = {name: [] for name in libraries}
    values = {name: function(*pair) for name, function in libraries.items()}  # the first run is a warm-up
    for _ in range(repeat):
        for name, function in libraries.items():
            began = time.process_time()
            function(*pair)
            seconds[name].append(time.process_time() - began)
    own = statistics.median(seconds["medseg"])
    for name, times in seconds.items():
        median = statistics.median(times)
        hd95 = " ".join(f"{v:.2f}" for v in values[name])
        print(f"{name:18} {median:8.3f} s   {median / own:6.1f} × medseg's time   HD95 {hd95}")


if __name__ == "__main__":
    main()
