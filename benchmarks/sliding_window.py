"""The streaming window beside MONAI's and the bare network, on the same windows; then memory.

    .venv/bin/python benchmarks/sliding_window.py                  # time: 3 and 100 classes, and a copy
    .venv/bin/python benchmarks/sliding_window.py --memory         # 100 classes over 256³, and twice as deep
    .venv/bin/python benchmarks/sliding_window.py --ct             # 104 classes over 512×512×1024, file to file

Times are medians of interleaved runs, as ratios to the bare network on the same windows. "floor" is the bare
network and one weighted addition of each window to a buffer of a window's size, the least that averaging can
cost. Memory is what a process of its own needs at most, above the same process with the network run on one
window only.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers.utils import sliding_window_inference

from medseg.inference.backends.base import BackendInfo
from medseg.inference.options import InferenceConfig
from medseg.inference.sliding_window.finite_checks import check_logits
from medseg.inference.sliding_window.options import Execution, SlidingWindowOptions
from medseg.inference.sliding_window.output_chunk import OutputChunk, assemble
from medseg.inference.sliding_window.prediction import decide, sliding_window_logits
from medseg.inference.sliding_window.window_plan import WindowPlan, window_weights
from medseg.models import UNetConfig
from medseg.system.allocator import keep_freed_memory
from medseg.task import Task

CPU = torch.device("cpu")
EAGER = BackendInfo("torch", torch.__version__, "float32")


class Copies(torch.nn.Module):
    """A network that costs nothing but the copying of its input into every class."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return windows.expand(-1, self.classes, *windows.shape[2:]).contiguous()


def unet(classes: int) -> torch.nn.Module:
    """A 3D U-Net of widths 8, 16, 32 and 64."""
    torch.manual_seed(0)
    return UNetConfig(channels=(8, 16, 32, 64)).build(Task(3, 1, classes)).eval()


def ours(network: torch.nn.Module, image: torch.Tensor, window: int, overlap: float) -> Any:
    """Image to label map, logits checked as a predictor does."""
    options = SlidingWindowOptions(roi_size=(window,) * 3, overlap=overlap, whole_planes=False, normalize=False)
    chunks = sliding_window_logits(network, image.numpy(), options, Execution(CPU))

    def labels(chunk: OutputChunk) -> torch.Tensor:
        check_logits(chunk.tensor, "the image", EAGER)
        return decide(chunk.tensor, "softmax")

    return assemble(chunks, tuple(image.shape[1:]), labels)[0]


def monais(network: torch.nn.Module, image: torch.Tensor, window: int, overlap: float) -> Any:
    """Image to label map, through the scores of everything."""
    with torch.inference_mode():
        scores = sliding_window_inference(
            image[None], (window,) * 3, 1, network, overlap=overlap, mode="gaussian"
        )
    return torch.as_tensor(scores)[0].argmax(dim=0).to(torch.uint8).numpy()


def bare(network: torch.nn.Module, image: torch.Tensor, window: int, overlap: float) -> None:
    """The network on every window, its scores thrown away."""
    with torch.inference_mode():
        for place in WindowPlan(tuple(image.shape[1:]), (window,) * 3, overlap):
            box = tuple(slice(start, start + window) for start in place)
            network(image[(slice(None), *box)].clone()[None])


def floor(network: torch.nn.Module, image: torch.Tensor, window: int, overlap: float) -> None:
    """The bare network, and each window's logits added, weighted, to one buffer of a window's size.

    No code that reads every window once does less.
    """
    size = (window,) * 3
    weight = window_weights(size)
    sums: torch.Tensor | None = None
    with torch.inference_mode():
        for start in WindowPlan(tuple(image.shape[1:]), size, overlap):
            box = tuple(slice(first, first + window) for first in start)
            logits = network(image[(slice(None), *box)].clone()[None])[0]
            if sums is None:
                sums = torch.zeros_like(logits)
            sums.addcmul_(logits, weight)


def compare(
    network: torch.nn.Module, shape: tuple[int, ...], window: int, overlap: float, runs: int
) -> dict[str, float]:
    """Median seconds of each way, the runs taking turns."""
    image = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    ways: dict[str, Callable[..., Any]] = {"bare": bare, "floor": floor, "medseg": ours, "MONAI": monais}
    times: dict[str, list[float]] = {name: [] for name in ways}
    results: dict[str, Any] = {}
    for _ in range(runs):
        for name, way in ways.items():
            began = time.perf_counter()
            results[name] = way(network, image, window, overlap)
            times[name].append(time.perf_counter() - began)
    agree = float((results["medseg"] == results["MONAI"]).mean())
    print(f"  label maps agree on {agree:.4%} of voxels")
    return {name: statistics.median(values) for name, values in times.items()}


def report_times(runs: int) -> None:
    """The table of times."""
    cases = {
        "U-Net, 3 classes, 160×160×128, windows of 64, overlap 0.5": (unet(3), (160, 160, 128), 64, 0.5),
        "U-Net, 100 classes, 160×160×128, windows of 64, overlap 0.5": (unet(100), (160, 160, 128), 64, 0.5),
        "copy, 16 classes, 96³, windows of 48, overlap 0.75": (Copies(16), (96, 96, 96), 48, 0.75),
    }
    for name, (network, shape, window, overlap) in cases.items():
        print(name)
        median = compare(network, shape, window, overlap, runs)
        base = median["bare"]
        for way, seconds in median.items():
            print(f"  {way:8} {seconds:8.3f} s   {seconds / base:6.3f} × bare")
        print(f"  medseg / MONAI {median['medseg'] / median['MONAI']:.3f}")


def peak() -> float:
    """Largest resident memory of this process so far, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure_memory(way: str, depth: int) -> None:
    """In a process of its own: peak memory of one way above the network's own."""
    network = unet(100)
    image = torch.randn(1, 256, 256, depth)
    with torch.inference_mode():
        network(image[None, :, :64, :64, :64])
    own = peak()
    {"medseg": ours, "MONAI": monais}[way](network, image, 64, 0.25)
    print(f"{peak() - own:.3f}")


def report_memory() -> None:
    """The table of memory."""
    print("U-Net, 100 classes, 256×256×depth, windows of 64: GB above the network's own and the image")
    for way, depth in (("medseg", 256), ("medseg", 512), ("MONAI", 256)):
        command = [sys.executable, __file__, "--measure", way, "--depth", str(depth)]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        print(f"  {way:8} depth {depth}: {found} GB")


def report_ct() -> None:
    """A synthetic CT of 512×512×1024 with 104 classes through a tiny network, from file to file."""
    import nibabel as nib

    from medseg.data.labels.schema import LabelSchema
    from medseg.data.preprocessing.normalization import Range
    from medseg.data.preprocessing.pipeline import PreprocessConfig
    from medseg.inference.model.model_file import ModelHeader, save_model

    with tempfile.TemporaryDirectory(prefix="medseg-") as name:
        folder = Path(name)
        voxels = np.random.default_rng(0).integers(-1000, 1000, (512, 512, 64), dtype=np.int16)
        nib.Nifti1Image(np.tile(voxels, (1, 1, 16)), np.diag([-0.8, -0.8, 1.0, 1.0])).to_filename(
            folder / "ct.nii"
        )
        header = ModelHeader(
            spatial_dims=3,
            channels=1,
            labels=LabelSchema(names={f"organ_{k}": (k,) for k in range(104)}),
            preprocess=PreprocessConfig(normalize=Range(low=-1000, high=1000)),
            inference=InferenceConfig(roi_size=(128, 128, 32), overlap=0.25, batch_size=1),
            model=UNetConfig(channels=(4, 8)),
        )
        torch.manual_seed(0)
        network = header.model.build(header.task)
        save_model(folder / "model.safetensors", header, dict(network.state_dict()))
        command = ["infer", str(folder / "ct.nii"), "--model", str(folder / "model.safetensors"), "--output"]
        began = time.perf_counter()
        run = [sys.executable, "-m", "medseg", *command, str(folder / "out")]
        subprocess.run(run, check=True, capture_output=True)
        used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        print(f"104 classes over 512×512×1024: {used:.2f} GB at most, {time.perf_counter() - began:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--ct", action="store_true")
    parser.add_argument("--measure", choices=["medseg", "MONAI"], help=argparse.SUPPRESS)
    parser.add_argument("--depth", type=int, default=256, help=argparse.SUPPRESS)
    given = parser.parse_args()
    keep_freed_memory()  # as every command of medseg does
    torch.set_num_threads(given.threads)
    if given.measure:
        measure_memory(given.measure, given.depth)
    elif given.memory:
        report_memory()
    elif given.ct:
        report_ct()
    else:
        report_times(given.runs)


if __name__ == "__main__":
    main()
