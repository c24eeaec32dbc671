"""Export a model to ONNX, ``torch.export`` or OpenVINO, and compare the written file with torch."""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
from medseg.inference.model.ensemble.member import MemberOptions, ModelSource, load_member
from medseg.inference.model.model_file import ModelHeader
from medseg.model_output import logits_of

Target = Literal["onnx", "torch", "openvino"]
Free = Literal["batch and size", "batch", "nothing"]
Run = Callable[[torch.Tensor], torch.Tensor]

OPSET = 18
"""ONNX operator set: written by torch's exporter without conversion, supported by all runtimes since 2023."""

TOLERANCES: dict[Target, float] = {"onnx": 1e-3, "torch": 1e-3, "openvino": 1e-2}
"""Largest allowed difference from torch's float32 logits, in standard deviations of the logits."""

METADATA = "medseg"
"""Metadata key of the model's header (labels, preprocessing, window size) as JSON."""


@dataclass(frozen=True)
class Exported:
    """A written file.

    Attributes:
        path: the file.
        target: its format.
        free: axes of the image that may have any length; the others have the length of the window.
        size: window size (*S).
        opset: ONNX operator set; None for other formats.
        difference: largest difference from torch's logits, in their standard deviations; None if the runtime
            that reads the file is not installed.
        why: reason why no more axes are free.
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
    """A file format.

    Attributes:
        suffix: file name suffix.
        package: package needed to write files.
        runner: package needed to run files.
        write: writes an exported network and the header.
        load: loads a file as a function.
    """

    suffix: str
    package: str
    runner: str
    write: Callable[[torch.export.ExportedProgram, Path, str], None]
    load: Callable[[Path], Run]


def export_model(
    source: ModelSource, path: Path, target: Target, *, model: nn.Module | None = None
) -> Exported:
    """Export the network of a run folder or model file.

    The exported network maps ``image`` (B, C, *S) float32, preprocessed, to ``logits`` (B, K, *S). If the
    network allows it, the batch size is free, and so is S as long as the strides that divide the window divide
    it. Otherwise only the batch size is free, or nothing.

    Args:
        source: run folder or model file.
        path: file to write.
        target: format.
        model: the network, for model files trained with a custom network; as in ``Predictor``.

    Raises:
        ConfigError: the suffix does not match the format, or a package is not installed.
        ConversionError: the network cannot be converted, or the file computes other logits than torch.
    """
    path, kind = Path(path), FORMATS[target]
    if path.suffix != kind.suffix:
        raise ConfigError(f"{path}: expected the suffix {kind.suffix} for {target}", path=path)
    if find_spec(kind.package) is None:
        hint = None if target == "torch" else f"Run pip install '.[{target}]' in the folder of medseg."
        raise ConfigError(f"--to {target} needs {kind.package}, which is not installed", hint=hint)
    opening = MemberOptions(BackendSetup(torch.device("cpu")), "torch", model=model)
    member = load_member(source, opening)
    if member.first_stages:
        raise ConfigError("the model is a cascade: only networks that receive the image alone are exported")
    header, network = member.header, member.network
    size = header.inference.roi_size or (64,) * header.spatial_dims
    failures: list[ConversionError] = []
    tries: tuple[Free, ...] = ("batch and size", "batch", "nothing")
    for free in tries:
        try:
            opset, why = OPSET if target == "onnx" else None, str(failures[0]) if failures else ""
            return _attempt(network, header, Exported(path, target, free, tuple(size), opset, None, why))
        except ConversionError as error:
            failures.append(error)
    raise failures[-1]


def _attempt(network: nn.Module, header: ModelHeader, planned: Exported) -> Exported:
    """Export, write, load and compare; return the file's description with the difference found.

    Raises:
        ConversionError: no file is written in that case.
    """
    target, free, size = planned.target, planned.free, planned.size
    kind, channels = FORMATS[target], header.task.in_channels
    with _write_whole(planned.path, target) as temporary:
        with _quiet(), conversion(network, target), torch.no_grad():
            kind.write(_program(network, channels, size, free), temporary, header.model_dump_json())
        deviation = None
        if find_spec(kind.runner) is not None:
            with conversion(network, target), torch.no_grad():
                run = kind.load(temporary)
                deviation = max(_difference(run, network, image) for image in _images(channels, size, free))
            if not deviation <= TOLERANCES[target]:
                raise ConversionError(
                    f"{network_name(network)} with {free} free: the logits of the {target} file differ from "
                    f"torch by {deviation:.2g} standard deviations, allowed are {TOLERANCES[target]:g}"
                )
    return replace(planned, difference=deviation)


def _program(
    network: nn.Module, channels: int, size: tuple[int, ...], free: Free
) -> torch.export.ExportedProgram:
    """Export the network as one graph; a batch of two samples represents any batch size."""
    axes: dict[int, Any] = {} if free == "nothing" else {0: Dim("batch")}
    if free == "batch and size":
        axes |= {2 + axis: Dim.DYNAMIC for axis in range(len(size))}
    image = _image(1 if free == "nothing" else 2, channels, size)
    return torch.export.export(Logits(network).eval(), (image,), dynamic_shapes=(axes,) if axes else None)


def _images(channels: int, size: tuple[int, ...], free: Free) -> Iterator[torch.Tensor]:
    """Images to test the file: one window, two windows, and longer windows that the same strides divide."""
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
    logits = run(image)
    if logits.shape != reference.shape:
        raise ValueError(f"logits of shape {tuple(logits.shape)}, in torch {tuple(reference.shape)}")
    return difference(logits, reference)[0]


@contextmanager
def _write_whole(path: Path, target: Target) -> Iterator[Path]:
    """Yield a temporary path; its file is moved to ``path`` at the end, after the weights of OpenVINO."""
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
    """Silence warnings of torch's exporter that do not concern users."""
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

    onnxruntime.disable_telemetry_events()  # some Windows builds send telemetry
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # errors are raised
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
    """Describe a written file in one or two lines."""
    window = "×".join(map(str, exported.size))
    opset = f", opset {exported.opset}" if exported.opset else ""
    accepted = {
        "batch and size": f"any batch size, the window {window} and other sizes that its strides divide",
        "batch": f"any batch size of {window}",
        "nothing": f"one image of {window}",
    }[exported.free]
    checked = (
        "not compared with torch, because its runtime is not installed"
        if exported.difference is None
        else f"logits differ from torch by at most {exported.difference:.1g} standard deviations"
    )
    why = f"\nother axes are fixed because: {exported.why}" if exported.why else ""
    return f"{exported.path}: {exported.target}{opset}; accepts {accepted}; {checked}{why}"
