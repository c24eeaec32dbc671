"""HD95, ASSD and NSD of five structures: medseg, MONAI and, if installed, surface-distance.

    .venv/bin/python benchmarks/metrics.py            # 192×192×64
    .venv/bin/python benchmarks/metrics.py --full     # 512×512×128, minutes for MONAI

Prints the median time of each library in seconds, its ratio to the time of medseg, and the HD95 of each label.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

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


def with_medseg(reference: np.ndarray, prediction: np.ndarray) -> list[float]:
    """Return the HD95 of each label; also computes ASSD, MASD, NSD and the overlap metrics."""
    from medseg.metrics import ScoreOptions, case_rows

    labels = {str(k): (k,) for k in range(1, 6)}
    rows = case_rows("case", reference, prediction, labels, SPACING, ScoreOptions(TOLERANCE))
    return [row["hd95"] for row in rows]


def with_monai(reference: np.ndarray, prediction: np.ndarray) -> list[float]:
    """Return the HD95 of each label by MONAI, on one-hot tensors; also computes ASSD and NSD."""
    import torch
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.surface_dice import compute_surface_dice
    from monai.metrics.surface_distance import compute_average_surface_distance

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


def main() -> None:
    """Time all libraries on the same volumes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    pair = volumes((512, 512, 128) if options.full else (192, 192, 64))
    libraries: dict[str, Callable[..., Any]] = {"medseg": with_medseg, "MONAI": with_monai}
    if importlib.util.find_spec("surface_distance"):
        libraries["surface-distance"] = with_surface_distance
    seconds: dict[str, list[float]] = {name: [] for name in libraries}
    values = {name: function(*pair) for name, function in libraries.items()}  # the first run is a warm-up
    for _ in range(options.repeat):
        for name, function in libraries.items():
            began = time.perf_counter()
            function(*pair)
            seconds[name].append(time.perf_counter() - began)
    own = statistics.median(seconds["medseg"])
    for name, times in seconds.items():
        median = statistics.median(times)
        hd95 = " ".join(f"{v:.2f}" for v in values[name])
        print(f"{name:18} {median:8.3f} s   {median / own:6.1f} × medseg's time   HD95 {hd95}")


if __name__ == "__main__":
    main()
