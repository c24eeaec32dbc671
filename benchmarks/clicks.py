"""Seconds and memory of a click on a volume, by default through an untrained network on a made-up volume.

    .venv/bin/python benchmarks/clicks.py                                  # 240×240×155, 4 channels
    .venv/bin/python benchmarks/clicks.py --shape 480 480 310              # the same object in a larger volume
    .venv/bin/python benchmarks/clicks.py --model RUN --scan FILE [FILE …] --label FILE

A simulated user clicks on an object five times, in each round from the start. The untrained network (windows of
64³, widths 16 to 256: a plan for 20 minutes on a CPU) computes as much as a trained one, but the brightness of
the image decides, so that windows zoom out and are refined as with a trained network.
"""

import argparse
import resource
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from medseg import Interactive
from medseg.data.io.readers import read_scan
from medseg.data.preprocessing.normalization import Range
from medseg.data.preprocessing.pipeline import PreprocessConfig
from medseg.data.scans import scan_from_array
from medseg.inference.backends import BackendSetup
from medseg.inference.model.ensemble.member import MemberOptions, load_member
from medseg.inference.model.model_file import OBJECT_LABELS, LoadedModel, ModelHeader
from medseg.inference.options import InferenceConfig
from medseg.models import UNetConfig
from medseg.prompts.options import PromptTask
from medseg.prompts.users import user_by_name
from medseg.system.device import resolve_autocast_dtype

CPU, ROUNDS, CLICKS, CHANNELS, WINDOW, WIDTHS = torch.device("cpu"), 5, 5, 4, 64, (16, 32, 64, 128, 256)
RADII = np.array([42, 50, 40])  # of the object, which is larger than a window


@dataclass
class Timed:
    """A backend that notes the seconds of each window; of an untrained network, the brightness decides."""

    backend: Any
    trained: bool
    info: Any
    seconds: list[float] = field(default_factory=list[float])

    def predict(self, batch: torch.Tensor) -> torch.Tensor:
        begin, logits = time.perf_counter(), self.backend.predict(batch)
        self.seconds.append(time.perf_counter() - begin)
        bright = batch[:, :1] - 0.5
        return logits if self.trained else torch.cat([-bright, bright], dim=1)


def make_model() -> LoadedModel:
    """Return an untrained model that answers prompts."""
    torch.manual_seed(0)
    header = ModelHeader(
        spatial_dims=3, channels=CHANNELS, labels=OBJECT_LABELS, prompts=PromptTask(),
        preprocess=PreprocessConfig(normalize=Range(low=0, high=1)),
        inference=InferenceConfig(roi_size=(WINDOW,) * 3), model=UNetConfig(channels=WIDTHS),
    )  # fmt: skip
    return LoadedModel(header, header.model.build(header.task).state_dict(), "untrained")


def draw_object(shape: tuple[int, ...]) -> np.ndarray:
    """Draw an ellipsoid with a bumpy surface in the middle of a volume, (*S) bool."""
    around = tuple(slice(n // 2 - r - 12, n // 2 + r + 12) for n, r in zip(shape, RADII, strict=True))
    distance = sum(((a - n // 2) / r) ** 2 for a, n, r in zip(np.ogrid[around], shape, RADII, strict=True))
    label = np.zeros(shape, bool)
    label[around] = (
        distance + ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 8, distance.shape), 4) < 1
    )
    return label


def main() -> None:
    """Click, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="run folder or model file of task.name=prompts")
    parser.add_argument("--scan", type=Path, nargs="+", help="one file, or one for each channel")
    parser.add_argument("--label", type=Path, help="label file; all that is not 0 is the object")
    parser.add_argument("--shape", type=int, nargs=3, default=(240, 240, 155), help="of the made-up volume")
    parser.add_argument("--backend", choices=("auto", "torch", "openvino"), default="auto")
    options = parser.parse_args()
    if not bool(options.model) == bool(options.scan) == bool(options.label):
        parser.error("--model, --scan and --label belong together")
    label = read_scan(options.label).array[0] != 0 if options.label else draw_object(tuple(options.shape))
    scan = scan_from_array(np.repeat(label[None], CHANNELS, axis=0).astype(np.float32), 3, (1.0, 1.0, 1.0))
    if files := [read_scan(path) for path in options.scan or ()]:
        scan = replace(files[0], array=np.concatenate([file.array for file in files]))
    setup = BackendSetup(CPU, resolve_autocast_dtype("auto", CPU))
    member = load_member(options.model or make_model(), MemberOptions(setup, backend=options.backend))
    timed, begin = Timed(member.backend, bool(options.model), member.backend.info), time.perf_counter()
    session = Interactive(replace(member, backend=timed), device="cpu").open(scan)
    print(f"open: {time.perf_counter() - begin:.2f} s; {member.backend.info}")
    user, clicks = user_by_name("clicks"), list[tuple[int, float, int]]()
    for rng in map(np.random.default_rng, range(ROUNDS)):
        session.restart()
        for turn in range(1, CLICKS + 1):
            if (prompt := user.next(label, session.mask, rng) if turn > 1 else user.first(label, rng)) is None:
                break
            before, begin = len(timed.seconds), time.perf_counter()
            session.add(prompt)
            clicks.append((turn, time.perf_counter() - begin, len(timed.seconds) - before))
    for turn in sorted({turn for turn, _, _ in clicks}):
        _, seconds, windows = zip(*(click for click in clicks if click[0] == turn), strict=True)
        print(f"click {turn}: {median(seconds):.2f} s, {median(windows):g} windows, {len(windows)} clicks")
    _, seconds, _ = zip(*clicks, strict=True)
    print(f"all: {median(seconds):.2f} s, at most {max(seconds):.2f} s; a window {median(timed.seconds):.3f} s")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(f"memory: {memory:.2f} GB at most, of which the scan takes {scan.array.nbytes / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
