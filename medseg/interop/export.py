"""A model in other runtimes' files, ONNX, ``torch.export``, OpenVINO; each compared with torch once written."""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.export import Dim

from medseg.errors import ConfigError, ConversionError
from medseg.files import write_atomic
from medseg.inference.backends import BackendSetup
from medseg.inference.backends.base import Logits, difference
from medseg.inference.backends.openvino import (
    compile_model,
    conversion,
    convert_program,
    network_name,
    openvino_core,
    quiet_openvino,
)
from medseg.inference.model.ensemble_member import ModelSource, Opening, open_member
from medseg.inference.model.model_file import ModelHeader
from medseg.model_output import logits_of

Target = Literal["onnx", "torch", "openvino"]
Free = Literal["batch and size", "batch", "nothing"]
Run = Callable[[torch.Tensor], torch.Tensor]

OPSET = 18
"""ONNX's operator set: what torch's exporter writes without converting, and every runtime since 2023 reads."""

TOLERANCES: dict[Target, float] = {"onnx": 1e-3, "torch": 1e-3, "openvino": 1e-2}
"""The largest difference from torch's scores in float32 that is taken for agreement, in standard deviations."""

METADATA = "medseg"
"""Under this name a file holds the model's header as JSON: labels, preprocessing, window."""


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Attributes:
        free: which of the image's axes may have any length; the others have the window's.
        size: the window (*S).
        opset: of ONNX.
        difference: the largest from torch's scores, in their standard deviations; None if the runtime that
            reads the file is not installed.
        why: why not more axes are free.
    """

    path: Path
    target: Target
    free: Free
    size: tuple[int, ...]
    opset: int | None
    difference: float | None
    why: str = ""


@dataclass(frozen=True)
class Format:
    """A kind of file: its suffix, how it is written of an exported network, and how it is run again."""

    suffix: str
    package: str
    runner: str
    write: Callable[[torch.export.ExportedProgram, Path, str], None]
    load: Callable[[Path], Run]


def export_model(
    source: ModelSource, path: Path, target: Target, *, model: nn.Module | None = None
) -> Exported:
    """Write a run's or model file's network to ``path`` in another runtime's form.

    The file takes ``image`` (B, C, *S) float32, preprocessed, and gives ``logits`` (B, K, *S). Any batch, and
    any size that the strides dividing the window divide, where the network allows it; else any batch of the
    window; else one window.
    ``model`` is as in ``Predictor``.

    Raises: ConfigError for another suffix, or if a package is missing; ConversionError if the network cannot be
    converted, or gives other logits than in torch.
    """
    path, kind = Path(path), FORMATS[target]
    if path.suffix != kind.suffix:
        raise ConfigError(f"{path}: files for {target} end in {kind.suffix}")
    if find_spec(kind.package) is None:
        extra = "" if target == "torch" else f"; pip install medseg[{target}]"
        raise ConfigError(f"{kind.package} is not installed, which --to {target} needs{extra}")
    opening = Opening(BackendSetup(torch.device("cpu")), "torch", model=model)
    member = open_member(source, opening)
    header, network = member.header, member.network
    size = header.inference.roi_size or (64,) * header.spatial_dims
    failures: list[ConversionError] = []
    tries: tuple[Free, ...] = ("batch and size", "batch", "nothing")
    for free in tries:
        try:
            why = str(failures[0]) if failures else ""
            return _attempt(network, header, path, target, free, tuple(size), why)
        except ConversionError as error:
            failures.append(error)
    raise failures[-1]


def _attempt(
    network: nn.Module,
    header: ModelHeader,
    path: Path,
    target: Target,
    free: Free,
    size: tuple[int, ...],
    why: str,
) -> Exported:
    """Export, write, read again, compare. Raises: ConversionError; then nothing is written."""
    kind, channels = FORMATS[target], header.task.in_channels
    with _whole(path, target) as temporary:
        with _quiet(), conversion(network, target), torch.no_grad():
            kind.write(_program(network, channels, size, free), temporary, header.model_dump_json())
        away = None
        if find_spec(kind.runner) is not None:
            with conversion(network, target), torch.no_grad():
                run = kind.load(temporary)
                away = max(_difference(run, network, image) for image in _images(channels, size, free))
            if not away <= TOLERANCES[target]:
                raise ConversionError(
                    f"{network_name(network)} with {free} free: the logits of its {target} file are {away:.2g} "
                    f"standard deviations from torch's, {TOLERANCES[target]:g} is allowed"
                )
    return Exported(path, target, free, size, OPSET if target == "onnx" else None, away, why)


def _program(
    network: nn.Module, channels: int, size: tuple[int, ...], free: Free
) -> torch.export.ExportedProgram:
    """The network as one graph; two samples stand for any number."""
    axes: dict[int, Any] = {} if free == "nothing" else {0: Dim("batch")}
    if free == "batch and size":
        axes |= {2 + axis: Dim.DYNAMIC for axis in range(len(size))}
    image = _image(1 if free == "nothing" else 2, channels, size)
    return torch.export.export(Logits(network).eval(), (image,), dynamic_shapes=(axes,) if axes else None)


def _images(channels: int, size: tuple[int, ...], free: Free) -> Iterator[torch.Tensor]:
    """What the file is tried on: a window; two; longer ones, axis by axis, that the same strides divide."""
    yield _image(1, channels, size)
    if free != "nothing":
        yield _image(2, channels, size)
    if free == "batch and size":
        for axis, n in enumerate(size):
            yield _image(1, channels, (*size[:axis], n + (n & -n), *size[axis + 1 :]))


def _image(batch: int, channels: int, size: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(0))


def _difference(run: Run, network: nn.Module, image: torch.Tensor) -> float:
    reference = logits_of(network(image))
    scores = run(image)
    if scores.shape != reference.shape:
        raise ValueError(f"its logits are {tuple(scores.shape)}, torch's {tuple(reference.shape)}")
    return difference(scores, reference)[0]


@contextmanager
def _whole(path: Path, target: Target) -> Iterator[Path]:
    """A temporary path; what lies there in the end is moved to ``path``, OpenVINO's weights beside it first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        suffixes = (".bin", ".xml") if target == "openvino" else (path.suffix,)
        for suffix in suffixes:
            with write_atomic(path.with_suffix(suffix)) as final:
                shutil.move(temporary.with_suffix(suffix), final)


@contextmanager
def _quiet() -> Iterator[None]:
    """torch's exporter warns of packages that are not needed and of its own habits."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _write_onnx(program: torch.export.ExportedProgram, path: Path, header: str) -> None:
    names: dict[str, Any] = {"input_names": ["image"], "output_names": ["logits"]}
    result = torch.onnx.export(program, (), dynamo=True, opset_version=OPSET, verbose=False, **names)
    assert result is not None
    result.model.metadata_props[METADATA] = header
    result.model.producer_name = "medseg"
    result.save(path, external_data=False)


def _load_onnx(path: Path) -> Run:
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # some builds for Windows report to the system's collector
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what fails is raised
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(image: torch.Tensor) -> torch.Tensor:
        (logits,) = session.run(["logits"], {"image": image.numpy()})
        return torch.from_numpy(logits)

    return run


def _write_torch(program: torch.export.ExportedProgram, path: Path, header: str) -> None:
    torch.export.save(program, path, extra_files={f"{METADATA}.json": header})


def _load_torch(path: Path) -> Run:
    with _quiet():
        return torch.export.load(path).module()


def _write_openvino(program: torch.export.ExportedProgram, path: Path, header: str) -> None:
    model = convert_program(program)
    model.set_rt_info(header, [METADATA])
    quiet_openvino().save_model(model, path, compress_to_fp16=False)


def _load_openvino(path: Path) -> Run:
    compiled = compile_model(openvino_core().read_model(path), None)
    return lambda image: torch.from_numpy(compiled([image.numpy()])[0])


FORMATS: dict[Target, Format] = {
    "onnx": Format(".onnx", "onnxscript", "onnxruntime", _write_onnx, _load_onnx),
    "torch": Format(".pt2", "torch", "torch", _write_torch, _load_torch),
    "openvino": Format(".xml", "openvino", "openvino", _write_openvino, _load_openvino),
}


def describe(exported: Exported) -> str:
    """What was written, in a line or two."""
    window = "×".join(map(str, exported.size))
    opset = f", opset {exported.opset}" if exported.opset else ""
    taken = {
        "batch and size": f"any batch, the window {window} and other sizes that its strides divide",
        "batch": f"any batch of {window}",
        "nothing": f"one image of {window}",
    }[exported.free]
    checked = (
        "not compared with torch: its runtime is not installed"
        if exported.difference is None
        else f"at most {exported.difference:.1g} standard deviations from torch's logits"
    )
    why = f"\nfixed because: {exported.why}" if exported.why else ""
    return f"{exported.path}: {exported.target}{opset}; takes {taken}; {checked}{why}"
