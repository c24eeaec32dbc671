"""What computes quickest on this machine's CPU: torch and OpenVINO, in float32 and bfloat16, in one run.

    .venv/bin/python benchmarks/backends.py                  # 1 thread
    .venv/bin/python benchmarks/backends.py --threads 2

A U-Net of widths 8, 16, 32 and 64, one window at a time. The four take turns, so that whatever else the machine
does meets all of them; medians of the rounds. The last columns are how far the scores are from torch's in
float32, at most and on average, in standard deviations.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch

from medseg.inference.backends import BackendSetup, make_backend
from medseg.inference.backends.base import difference, precision_of
from medseg.models import UNetConfig
from medseg.system.allocator import keep_freed_memory
from medseg.task import Task

CPU = torch.device("cpu")
WINDOWS = ((64, 64, 64), (96, 96, 96), (256, 256))


def compare(size: tuple[int, ...], rounds: int) -> list[dict[str, Any]]:
    """Median seconds of each backend and precision on one window."""
    torch.manual_seed(0)
    network = UNetConfig(channels=(8, 16, 32, 64)).build(Task(3 if len(size) == 3 else 2, 1, 3)).eval()
    window = torch.randn(1, 1, *size)
    backends = {
        f"{name} {precision_of(dtype)}": make_backend(name, network, BackendSetup(CPU, dtype))
        for name in ("torch", "openvino")
        for dtype in (None, torch.bfloat16)
    }
    seconds: dict[str, list[float]] = {name: [] for name in backends}
    with torch.inference_mode():
        reference = network(window)
        away = {name: difference(backend.predict(window), reference) for name, backend in backends.items()}
        for _ in range(rounds):
            for name, backend in backends.items():
                began = time.perf_counter()
                backend.predict(window)
                seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return [
        {
            "window": "×".join(map(str, size)),
            "backend": name,
            "ms": 1000 * median,
            "times": medians["torch float32"] / median,
            "most": away[name][0],
            "mean": away[name][1],
        }
        for name, median in medians.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    keep_freed_memory()  # as every command of medseg does
    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads, {options.rounds} rounds")
    print(f"{'window':10} {'backend':18} {'ms':>8} {'× torch float32':>16} {'most':>9} {'mean':>9}")
    for size in WINDOWS:
        for row in compare(size, options.rounds):
            print(
                f"{row['window']:10} {row['backend']:18} {row['ms']:8.1f} {row['times']:16.2f} "
                f"{row['most']:9.1e} {row['mean']:9.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
