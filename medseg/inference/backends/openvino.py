"""OpenVINO on CPUs: convert the network in memory and compare it with torch on the first window of each size.

OpenVINO's conversion tools send usage statistics through the package ``openvino_telemetry``. medseg blocks its
import and converts through the front end, which sends nothing, so that no data leaves the machine.
"""

from __future__ import annotations

import sys
import warnings
from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from threading import Lock
from typing import Any, ClassVar

import torch
from torch import nn

from medseg.errors import ConversionError
from medseg.inference.backends.base import BackendInfo, BackendSetup, Logits, difference, one_line, precision_of
from medseg.model_output import logits_of
from medseg.system.allocator import is_out_of_memory

FLOAT32_TOLERANCE = 0.01
"""Maximum allowed difference from torch's logits in float32, in their standard deviations. OpenVINO's
normalization layers sum in another order: the difference is 0.0003 in windows of 64³ and 0.002 in 96³."""

HALF_TOLERANCE = 0.1
"""Maximum allowed mean difference in half precision; that of torch in bfloat16 is about 0.02."""

_MAX_SIZES = 4  # window sizes whose compiled networks are kept
_HINTS = {None: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}
_NAMES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}


class OpenVINOBackend:
    """A network converted for single windows of a fixed size, with as many threads as torch uses.

    The windows of a batch are computed one after another: larger batches are not faster on CPUs, and a smaller
    last batch needs no further conversion. The network is converted once per window size. Its float32 logits
    must agree with torch's on the first window before it is used in the requested precision.
    """

    name: ClassVar[str] = "openvino"

    def __init__(self, network: nn.Module, setup: BackendSetup) -> None:
        self.network = network
        self.setup = setup
        self._lock = Lock()
        self._compiled: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        self._precision = precision_of(setup.dtype)
        self._difference: float | None = None

    @staticmethod
    def unavailable_reason(setup: BackendSetup) -> str | None:
        if setup.device.type != "cpu":
            return f"openvino is supported on CPUs, got {setup.device.type}"
        if find_spec("openvino") is None:
            return "openvino is not installed: pip install '.[openvino]' in the folder of medseg"
        return None

    @property
    def info(self) -> BackendInfo:
        return BackendInfo(self.name, version("openvino"), self._precision, self._difference)

    def predict(self, windows: torch.Tensor) -> torch.Tensor:
        size = tuple(windows.shape[1:])
        with self._lock:  # a compiled network is not thread-safe
            if size not in self._compiled:
                self._compiled[size] = self._compile_checked(windows[:1])
                if len(self._compiled) > _MAX_SIZES:
                    self._compiled.popitem(last=False)
            compiled = self._compiled[size]
            return torch.cat([_logits(compiled, window[None]) for window in windows])

    def _compile_checked(self, window: torch.Tensor) -> Any:
        """Compile the network for the size of ``window`` and compare its logits with torch's.

        Raises:
            ConversionError: the conversion fails or the logits differ.
        """
        window = with_contrast(window)
        with torch.no_grad():
            reference = logits_of(self.network(window))
        with conversion(self.network):
            model = convert(self.network, window)
            compiled = compile_model(model, None)
            most, _ = difference(_logits(compiled, window), reference)
        self._check_agreement(most, FLOAT32_TOLERANCE, "float32")
        if self.setup.dtype is not None:
            with conversion(self.network):
                compiled = compile_model(model, self.setup.dtype)
                self._check_precision(effective_precision(compiled))
                _, mean = difference(_logits(compiled, window), reference)
            self._check_agreement(mean, HALF_TOLERANCE, precision_of(self.setup.dtype))
        self._difference = max(most, self._difference or 0.0)
        self._precision = effective_precision(compiled)
        return compiled

    def _check_precision(self, precision: str) -> None:
        """Raise ConversionError if float16 is computed in bfloat16 or vice versa; float32 is accepted."""
        if precision not in ("float32", wanted := precision_of(self.setup.dtype)):
            raise ConversionError(f"OpenVINO computes in {precision} on this processor, requested {wanted}")

    def _check_agreement(self, away: float, tolerance: float, precision: str) -> None:
        if not away <= tolerance:  # also true for NaN
            raise ConversionError(
                f"{network_name(self.network)}: OpenVINO's logits in {precision} differ from torch's by "
                f"{away:.2g} standard deviations, allowed are {tolerance:g}"
            )


def with_contrast(window: torch.Tensor) -> torch.Tensor:
    """Return a window (1, C, *S) on which networks can be compared.

    This is the window itself, or noise of its shape if a channel has a single value, as around a brain:
    normalization layers divide the rounding errors of such a channel by almost zero.
    """
    flat = window.flatten(2)
    if bool((flat.amax(dim=-1) > flat.amin(dim=-1)).all()):
        return window
    return torch.randn(window.shape, generator=torch.Generator().manual_seed(0)).to(window)


def network_name(network: nn.Module) -> str:
    """Return the name of the network's class."""
    return type(network).__name__


def quiet_openvino() -> Any:
    """Import ``openvino`` with its telemetry blocked; OpenVINO uses a stub if that package is missing."""
    sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore[reportArgumentType]
    import openvino

    return openvino


@cache
def openvino_core() -> Any:
    """Return the only ``openvino.Core`` of this process, which is never released.

    The first use of the CPU in a core replaces the thread's alternate signal stack. Releasing one of several
    cores leaves the thread with a freed stack, and the next signal (the end of a child process, Ctrl-C) ends
    the process with a segmentation fault.
    """
    return quiet_openvino().Core()


@contextmanager
def conversion(network: nn.Module, target: str = "OpenVINO") -> Generator[None]:
    """Turn errors of a conversion into ConversionError with the network's name, except for lack of memory."""
    try:
        yield
    except Exception as error:  # torch and OpenVINO raise many types
        if is_out_of_memory(error):
            raise
        raise ConversionError(
            f"{network_name(network)} cannot be converted for {target}: {one_line(error)}"
        ) from error


def convert(network: nn.Module, window: torch.Tensor) -> Any:
    """Convert a network to an OpenVINO model for images of the size of ``window`` (1, C, *S).

    Errors of torch and OpenVINO are passed on; call it within ``conversion``.
    """
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation warnings of torch and OpenVINO about each other
        return convert_program(torch.export.export(Logits(network).eval(), (window.clone(),)))


def convert_program(program: torch.export.ExportedProgram) -> Any:
    """Convert an exported program to an OpenVINO model."""
    quiet_openvino()
    front_ends: Any = import_module("openvino.frontend")
    pytorch = "openvino.frontend.pytorch"
    kept_operations: Any = import_module(f"{pytorch}.torchdynamo.export_decompositions").ops_to_not_decompose
    fx_decoder: Any = import_module(f"{pytorch}.fx_decoder")
    decompositions: Any = import_module("torch.export.decomp_utils")
    table = decompositions.CustomDecompTable()
    for operation in kept_operations():
        if operation in table:
            table.pop(operation)
    exported: Any = program  # torch does not annotate ``decomp_table``
    decoder = fx_decoder.TorchFXPythonDecoder(exported.run_decompositions(table).module(), dynamic_shapes=False)
    front_end = front_ends.FrontEndManager().load_by_framework("pytorch")
    model = front_end.convert(front_end.load(decoder))
    model.inputs[0].get_tensor().set_names({"image"})
    model.outputs[0].get_tensor().set_names({"logits"})
    return model


def compile_model(model: Any, dtype: torch.dtype | None) -> Any:
    """Compile a model for the CPU.

    Threads are not pinned, because two concurrent processes would be pinned to the same cores.

    Args:
        model: an OpenVINO model.
        dtype: requested precision, used if the CPU supports it; float32 if None.
    """
    settings = {
        "INFERENCE_PRECISION_HINT": _HINTS[dtype],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    return openvino_core().compile_model(model, "CPU", settings)


def effective_precision(compiled: Any) -> str:
    """Return the precision of a compiled model; CPUs without bfloat16 ignore a request for it."""
    name = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
    return _NAMES.get(name, name)


def _logits(compiled: Any, window: torch.Tensor) -> torch.Tensor:
    """Return the logits (1, K, *S) of one window (1, C, *S)."""
    result = compiled([window.contiguous().numpy()], share_inputs=True, share_outputs=False)
    return torch.as_tensor(result[0])
