"""What one GPU does with medseg, in one command of less than 9 minutes that writes one JSON file.

    .venv/bin/python benchmarks/gpu.py --output gpu.json                # one CUDA device
    .venv/bin/python benchmarks/gpu.py --output toy.json --size toy     # seconds, on a CPU: that it runs

Parts: ``tests``, every test marked ``gpu``; ``training``, steps a second of U-Net in 2D and 3D and of DeepLabV3
beside MONAI's U-Net and torchvision's DeepLabV3 (where installed), compiled and not; ``window``, the sliding
window over a large image with 3 and 104 classes beside MONAI's, time and peak memory of the device; ``memory``,
what is done where the device has less memory than a scan needs; ``idle``, the share of a training in which the
device does nothing. A part that fails or that there is no time left for says so in the file.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers.utils import sliding_window_inference
from monai.networks.nets.unet import UNet as MonaiUNet
from torch import nn

from medseg.config.schema import load_config
from medseg.data.labels.schema import LabelSchema
from medseg.data.preprocessing.normalization import Range
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.data.scans import Scan
from medseg.demo.phantoms import write_phantoms
from medseg.errors import OutOfMemoryError
from medseg.files import write_json
from medseg.geometry import Grid
from medseg.inference.backends import BackendSetup, TorchBackend
from medseg.inference.model.model_file import LoadedModel, ModelHeader
from medseg.inference.model.predictor import Predictor
from medseg.inference.options import InferenceConfig
from medseg.inference.sliding_window.options import Execution, SlidingWindowOptions
from medseg.inference.sliding_window.output_chunk import assemble
from medseg.inference.sliding_window.prediction import decide, sliding_window_logits
from medseg.model_output import as_output, logits_of
from medseg.models import DeepLabV3Config, UNetConfig
from medseg.progress import QuietProgress
from medseg.system.allocator import is_out_of_memory
from medseg.system.device import autocast, channels_last, cudnn_benchmark, resolve_autocast_dtype
from medseg.system.diagnostics import diagnose
from medseg.system.platform import usable_cores
from medseg.task import Task
from medseg.training.fit import fit

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 520  # seconds after which no further measurement begins


@dataclass(frozen=True)
class Size:
    """How large everything is.

    Attributes:
        channels: of the U-Nets' levels.
        picture, patch: width of 2D batches and of 3D patches.
        batch: samples of 2D and of 3D batches.
        seconds: that a network is trained for.
        compiled: whether networks are compiled, too.
        image, window: width of the sliding window's image and window.
        updates: of the training whose idle share is measured.
    """

    channels: tuple[int, ...] = (32, 64, 128, 256, 320)
    picture: int = 512
    patch: int = 128
    batch: tuple[int, int] = (8, 2)
    seconds: float = 6.0
    compiled: bool = True
    image: int = 512
    window: int = 128
    updates: int = 200


SIZES = {
    "full": Size(),
    "toy": Size((4, 8), 64, 16, (1, 1), seconds=0.0, compiled=False, image=24, window=16, updates=2),
}


class Bench:
    """The device, the sizes and the clock that all parts share."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.dtype = resolve_autocast_dtype("auto", self.device)
        self.began = time.monotonic()

    @property
    def left(self) -> float:
        """Seconds that measurements may still take."""
        return LIMIT - (time.monotonic() - self.began)

    def wait(self) -> None:
        """Until the device has done everything that was asked of it."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    @contextmanager
    def measured(self, record: dict[str, Any]) -> Iterator[None]:
        """Write seconds and the peak memory of the device, GiB, into ``record``; a lack of memory, too."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        self.wait()
        began = time.perf_counter()
        try:
            yield
        except (RuntimeError, MemoryError, OutOfMemoryError) as error:
            if not (isinstance(error, OutOfMemoryError) or is_out_of_memory(error)):
                raise
            record["out_of_memory"] = str(error).splitlines()[0]
        self.wait()
        record["seconds"] = round(time.perf_counter() - began, 3)
        if self.device.type == "cuda":
            record["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)


def run_tests(bench: Bench) -> dict[str, Any]:
    """Every test marked ``gpu``, in a process of its own."""
    where = ["tests"] if bench.device.type == "cuda" else ["tests/training/test_gpu.py"]
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", "-o", "addopts=", *where]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
    lines = done.stdout.strip().splitlines()
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (\w+)", lines[-1] if lines else "")}
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {"exit_code": done.returncode, "failures": failed, "stderr": done.stderr[-500:], **counts}


def networks(size: Size) -> Iterator[tuple[str, Task, Callable[[], nn.Module]]]:
    """Name, task, and what builds each network that is trained."""
    config, strides = UNetConfig(channels=size.channels), (2,) * (len(size.channels) - 1)
    for task in (Task(2, 1, 3), Task(3, 1, 3)):
        dims = task.spatial_dims
        yield f"unet{dims}d medseg", task, partial(config.build, task)
        yield f"unet{dims}d monai", task, partial(MonaiUNet, dims, 1, 3, size.channels, strides)
    task = Task(2, 3, 3)
    yield "deeplabv3 medseg", task, partial(DeepLabV3Config(output_stride=8).build, task)
    if find_spec("torchvision") is not None:
        from torchvision.models.segmentation import deeplabv3_resnet50  # pyright: ignore[reportMissingImports]

        options = {"weights": None, "weights_backbone": None, "num_classes": 3}
        yield "deeplabv3 torchvision", task, partial(deeplabv3_resnet50, **options)


def measure_training(bench: Bench) -> dict[str, Any]:
    """Steps a second of each network, in mixed precision where the device has it."""
    found: dict[str, Any] = {"precision": str(bench.dtype or torch.float32)}
    for compiled in (False, True) if bench.size.compiled else (False,):
        for name, task, build in networks(bench.size):
            label = f"{name}, compiled" if compiled else name
            if bench.left < (100 if compiled else 30):
                found[label] = {"skipped": "no time left"}
                continue
            with bench.measured(found.setdefault(label, {})):
                found[label]["steps_per_second"] = steps_per_second(bench, build(), task, compiled)
    return found


def steps_per_second(bench: Bench, network: nn.Module, task: Task, compiled: bool) -> float:
    """Of forward, loss, backward and update on one batch that lies on the device."""
    size, device, dims = bench.size, bench.device, task.spatial_dims
    width, batch = (size.picture, size.batch[0]) if dims == 2 else (size.patch, size.batch[1])
    layout = channels_last(dims)
    network = network.to(device).to(memory_format=layout).train()  # pyright: ignore[reportCallIssue]
    image = torch.randn(batch, task.in_channels, *(width,) * dims, device=device).to(memory_format=layout)
    target = torch.randint(0, 3, (batch, *(width,) * dims), device=device)
    optimizer = torch.optim.AdamW(network.parameters())
    forward: Callable[[torch.Tensor], Any] = torch.compile(network) if compiled else network

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(bench.dtype, device):
            logits = as_output(forward(image)).logits
            loss = nn.functional.cross_entropy(logits, target)
        loss.backward()
        optimizer.step()

    with cudnn_benchmark(device):
        for _ in range(3 if device.type == "cuda" else 1):
            step()
        bench.wait()
        began, steps = time.perf_counter(), 0
        while steps == 0 or time.perf_counter() - began < size.seconds:
            for _ in range(5 if device.type == "cuda" else 1):
                step()
                steps += 1
            bench.wait()
        return steps / (time.perf_counter() - began)


def measure_window(bench: Bench) -> dict[str, Any]:
    """Image to label map, medseg's window and MONAI's with the same network, window and overlap."""
    found: dict[str, Any] = {}
    for classes, width in product((3, 104), (bench.size.image // 2, bench.size.image)):
        image = np.random.default_rng(0).standard_normal((1, *(width,) * 3), np.float32)
        torch.manual_seed(0)
        network = UNetConfig(channels=bench.size.channels[:4]).build(Task(3, 1, classes))
        network = network.eval().to(bench.device)
        maps: dict[str, np.ndarray] = {}
        records: dict[str, Any] = {way: {"skipped": "no time left"} for way in WAYS}
        for way, run in WAYS.items():
            if bench.left > 30:
                records[way] = {}
                with bench.measured(records[way]):
                    maps[way] = run(bench, network, image)
        if len(maps) == 2:
            records["agreement"] = float((maps["medseg"] == maps["monai"]).mean())
        found[f"{width}x{width}x{width}, {classes} classes"] = records
    return found


def medsegs_window(bench: Bench, network: nn.Module, image: np.ndarray) -> np.ndarray:
    """The label map, planes decided as they are finished."""
    options = SlidingWindowOptions(
        roi_size=(bench.size.window,) * 3, overlap=0.25, whole_planes=False, normalize=False
    )
    predict = TorchBackend(network, BackendSetup(bench.device, bench.dtype)).predict
    chunks = sliding_window_logits(predict, image, options, Execution(bench.device))
    return assemble(chunks, image.shape[1:], lambda chunk: decide(chunk.tensor, "softmax"))[0]


def monais_window(bench: Bench, network: nn.Module, image: np.ndarray) -> np.ndarray:
    """The label map, from the scores of the whole image on the device."""

    def predict(windows: torch.Tensor) -> torch.Tensor:
        with autocast(bench.dtype, bench.device):
            return logits_of(network(windows)).float()

    with torch.inference_mode():
        scores = sliding_window_inference(
            torch.from_numpy(image[None]).to(bench.device), (bench.size.window,) * 3, 1, predict,
            overlap=0.25, mode="gaussian",
        )  # fmt: skip
        return torch.as_tensor(scores)[0].argmax(dim=0).to(torch.uint8).cpu().numpy()


WAYS = {"medseg": medsegs_window, "monai": monais_window}


def measure_memory(bench: Bench) -> dict[str, Any]:
    """A scan on a device that is allowed ever less memory: what is done, and whether the result is the same."""
    header = ModelHeader(
        spatial_dims=3,
        channels=1,
        labels=LabelSchema(names={f"class_{k}": (k,) for k in range(104)}),
        preprocess=PreprocessConfig(normalize=Range(low=-1, high=1)),
        inference=InferenceConfig(roi_size=(bench.size.window,) * 3, overlap=0.25, batch_size=4),
        model=UNetConfig(channels=bench.size.channels[:4]),
    )
    torch.manual_seed(0)
    loaded = LoadedModel(header, dict(header.model.build(header.task).state_dict()), "benchmark")
    predictor = Predictor(loaded, device=str(bench.device))
    shape = (bench.size.image // 2,) * 3
    array = np.random.default_rng(0).standard_normal((1, *shape), np.float32)
    scan = Scan(array=array, grid=Grid(shape, np.eye(4)), kind="volume", path=Path("scan.nii.gz"))
    found: dict[str, Any] = {"whole": {}}
    with bench.measured(found["whole"]):
        expected = predictor.predict(scan).label_map
    if bench.device.type != "cuda":
        return found | {"skipped": "memory is limited on CUDA devices alone"}
    total = torch.cuda.get_device_properties(bench.device).total_memory / 2**30
    for share in (0.8, 0.5, 0.3, 0.15):
        record: dict[str, Any] = {"limit_gib": share * found["whole"]["peak_gib"]}
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(record["limit_gib"] / total)
        try:
            with bench.measured(record):
                prediction = predictor.predict(scan)
                record["notes"] = prediction.notes
                record["agreement"] = float((prediction.label_map == expected).mean())
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        found[f"{share:.0%} of the peak"] = record
    return found


class Clock(QuietProgress):
    """Notes when the weights were updated."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.stages: list[str] = []

    def start(self, total: int, description: str, *, unit: str = "cases", completed: int = 0) -> None:
        self.stages.append(description)

    def advance(self, detail: str = "") -> None:
        if self.stages[-1] == "training":
            self.times.append(time.monotonic())

    def finish(self) -> None:
        self.stages.pop()


def measure_idle(bench: Bench) -> dict[str, Any]:
    """A training on phantoms through ``fit``: updates a second, and how long the device does nothing."""
    clock, size = Clock(), bench.size
    with tempfile.TemporaryDirectory(prefix="medseg-") as name:
        folder = Path(name)
        width = max(40, size.patch)
        write_phantoms(folder / "data", cases=6, seed=0, size=(width, width, width))
        settings = {
            "data": {
                "path": str(folder / "data"),
                "workers": min(8, usable_cores()) if size.compiled else 0,
            },
            "sampling": {"patch_size": [size.patch] * 3},
            "model": {"channels": list(size.channels)},
            "train": {"epochs": 1, "iterations": size.updates, "batch_size": size.batch[1]},
        }
        with busy_samples(bench) as samples:
            fit(load_config(settings), folder / "run", progress=clock)
    half = len(clock.times) // 2  # workers and cuDNN have started
    pace = (len(clock.times) - half - 1) / max(clock.times[-1] - clock.times[half], 1e-9)
    busy = [share for moment, share in samples if clock.times[half] <= moment <= clock.times[-1]]
    idle = 1 - statistics.mean(busy) / 100 if busy else None
    return {"updates": len(clock.times), "updates_per_second": round(pace, 3), "idle_share": idle}


@contextmanager
def busy_samples(bench: Bench) -> Iterator[list[tuple[float, float]]]:
    """When it was measured, and the percentage of time that the device was busy, five times a second."""
    samples: list[tuple[float, float]] = []
    if bench.device.type != "cuda":
        yield samples
        return
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
    with tempfile.TemporaryFile("w+") as stream:
        began = time.monotonic()
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.DEVNULL)
        try:
            yield samples
        finally:
            process.terminate()
            process.wait()
            took = time.monotonic() - began
            stream.seek(0)
            values = [float(line) for line in stream.read().split() if line.isdigit()]
            samples += [(began + took * (i + 1) / len(values), value) for i, value in enumerate(values)]


def machine(bench: Bench) -> dict[str, Any]:
    """The hardware and the versions of packages, CUDA and cuDNN."""
    facts: dict[str, dict[str, str]] = {}
    for finding in diagnose():
        facts.setdefault(finding.topic, {})[finding.subject] = finding.message
    torchvision = version("torchvision") if find_spec("torchvision") is not None else None
    cuda = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "torchvision": torchvision}
    if bench.device.type == "cuda":
        properties = torch.cuda.get_device_properties(bench.device)
        cuda["capability"] = f"{properties.major}.{properties.minor}"
    return {"device": str(bench.device), **facts, "cuda": cuda}


PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "tests": run_tests,
    "window": measure_window,
    "memory": measure_memory,
    "idle": measure_idle,
    "training": measure_training,  # last: compiling takes what time is left
}


def main(arguments: list[str] | None = None) -> int:
    """Run the parts; returns 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="the JSON file")
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args(arguments)
    bench, failed = Bench(SIZES[options.size]), False
    result: dict[str, Any] = {"size": options.size, "machine": machine(bench)}
    result["parts"] = {}
    for name in [part for part in PARTS if part in options.parts]:
        began = time.monotonic()
        try:
            found = PARTS[name](bench) if bench.left > 0 else {"skipped": "no time left"}
        except Exception as error:  # the others' figures are worth having
            failed, found = (
                True,
                {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()},
            )
        result["parts"][name] = {**found, "took_seconds": round(time.monotonic() - began, 2)}
        write_json(options.output, result)  # after each part: a session that ends early leaves the others
        print(f"{name}: {result['parts'][name].get('error', 'done')}, {time.monotonic() - began:.0f} s")
    result["seconds"] = round(time.monotonic() - bench.began, 2)
    write_json(options.output, result)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
