"""OpenVINO on CPUs: the network converted in memory, checked against torch on the first window of each size.

Nothing leaves the machine: OpenVINO's conversion tools report their use to the network by a package of its own,
``openvino_telemetry``, which is kept from being imported; and the conversion goes through the front end,
which tells nobody.
"""

from __future__ import annotations

import sys
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
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
"""The largest difference from torch's scores in float32 that is taken for agreement, in their standard
deviations. OpenVINO's norms sum in another order: 0.0003 in windows of 64³, 0.002 in 96³."""

HALF_TOLERANCE = 0.1
"""The same for half precision, of the mean difference; torch's own bfloat16 is about 0.02 away."""

_KEPT = 4  # sizes of windows whose compiled networks are kept
_HINTS = {None: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}
_NAMES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}


class OpenVINOBackend:
    """A network converted for one window at a time, of a fixed size, by torch's number of threads.

    Windows of a batch follow each other: on CPUs they are no quicker together, and a last batch that is
    smaller needs no network of its own. For each size of windows the network is converted once, and agrees in
    float32 with torch on the first one, before it is used in whatever precision is asked for.
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
            return f"openvino is for CPUs here, not for {setup.device.type}"
        if find_spec("openvino") is None:
            return "openvino is not installed: pip install medseg[openvino]"
        return None

    @property
    def info(self) -> BackendInfo:
        return BackendInfo(self.name, version("openvino"), self._precision, self._difference)

    def predict(self, windows: torch.Tensor) -> torch.Tensor:
        size = tuple(windows.shape[1:])
        with self._lock:  # a compiled network computes one thing at a time
            if size not in self._compiled:
                self._compiled[size] = self._checked(windows[:1])
                if len(self._compiled) > _KEPT:
                    self._compiled.popitem(last=False)
            compiled = self._compiled[size]
            return torch.cat([_scores(compiled, window[None]) for window in windows])

    def _checked(self, window: torch.Tensor) -> Any:
        """The network compiled for windows of this one's size. Raises: ConversionError."""
        window = with_contrast(window)
        with torch.no_grad():
            reference = logits_of(self.network(window))
        with conversion(self.network):
            model = convert(self.network, window)
            compiled = compile_model(model, None)
            most, _ = difference(_scores(compiled, window), reference)
        self._agree(most, FLOAT32_TOLERANCE, "float32")
        if self.setup.dtype is not None:
            with conversion(self.network):
                compiled = compile_model(model, self.setup.dtype)
                self._refuse_other_half(effective_precision(compiled))
                _, mean = difference(_scores(compiled, window), reference)
            self._agree(mean, HALF_TOLERANCE, precision_of(self.setup.dtype))
        self._difference = max(most, self._difference or 0.0)
        self._precision = effective_precision(compiled)
        return compiled

    def _refuse_other_half(self, precision: str) -> None:
        """float16 that is computed in bfloat16 is not what was asked for; float32 is at least as good."""
        if precision not in ("float32", wanted := precision_of(self.setup.dtype)):
            raise ConversionError(f"OpenVINO computes in {precision} on this processor, not in {wanted}")

    def _agree(self, away: float, tolerance: float, precision: str) -> None:
        if not away <= tolerance:  # not a number is none
            raise ConversionError(
                f"{network_name(self.network)}: OpenVINO's scores in {precision} are {away:.2g} standard "
                f"deviations from torch's, {tolerance:g} is allowed"
            )


def with_contrast(window: torch.Tensor) -> torch.Tensor:
    """A window (1, C, *S) that networks can be compared on: itself, or noise of its shape if a channel of it
    has one value only (around a brain). Norms divide such a channel's rounding errors by next to nothing.
    """
    flat = window.flatten(2)
    if bool((flat.amax(dim=-1) > flat.amin(dim=-1)).all()):
        return window
    return torch.randn(window.shape, generator=torch.Generator().manual_seed(0)).to(window)


def network_name(network: nn.Module) -> str:
    """What the network is called: its class."""
    return type(network).__name__


def quiet_openvino() -> Any:
    """The module ``openvino`` without its telemetry, for whose absence OpenVINO has a stand-in."""
    sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore[reportArgumentType]
    import openvino

    return openvino


@cache
def openvino_core() -> Any:
    """The one ``openvino.Core`` of this process, which is never let go.

    The first use of the CPU in a core replaces the thread's alternate signal stack, and letting go of one
    core of several leaves the thread with a stack that is freed: the next signal (a child's end, Ctrl-C)
    would end the process with a segmentation fault.
    """
    return quiet_openvino().Core()


@contextmanager
def conversion(network: nn.Module, target: str = "OpenVINO") -> Iterator[None]:
    """Whatever goes wrong within is a ConversionError with the network's name, but for a lack of memory."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ConversionError(
            f"{network_name(network)} cannot be converted for {target}: {one_line(error)}"
        ) from error


def convert(network: nn.Module, window: torch.Tensor) -> Any:
    """A network as an OpenVINO model for images of the size of ``window`` (1, C, *S).

    Raises whatever torch and OpenVINO raise; see ``conversion``.
    """
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's and OpenVINO's, of each other's old habits
        return convert_program(torch.export.export(Logits(network).eval(), (window.clone(),)))


def convert_program(program: torch.export.ExportedProgram) -> Any:
    """An exported program as an OpenVINO model."""
    quiet_openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder
    from openvino.frontend.pytorch.torchdynamo.export_decompositions import ops_to_not_decompose
    from torch.export.decomp_utils import CustomDecompTable

    table = CustomDecompTable()
    for operation in ops_to_not_decompose():
        if operation in table:
            table.pop(operation)
    module = program.run_decompositions(table).module()  # pyright: ignore[reportArgumentType]
    decoder = TorchFXPythonDecoder(module, dynamic_shapes=False)
    front_end = FrontEndManager().load_by_framework("pytorch")
    model = front_end.convert(front_end.load(decoder))
    model.inputs[0].get_tensor().set_names({"image"})
    model.outputs[0].get_tensor().set_names({"logits"})
    return model


def compile_model(model: Any, dtype: torch.dtype | None) -> Any:
    """A model ready to compute on the CPU, in ``dtype`` (None: float32) where the CPU has it.

    Threads are not pinned: two processes side by side would be pinned to the same cores.
    """
    settings = {
        "INFERENCE_PRECISION_HINT": _HINTS[dtype],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    return openvino_core().compile_model(model, "CPU", settings)


def effective_precision(compiled: Any) -> str:
    """What a compiled model computes in; a CPU without bfloat16 leaves a wish for it aside."""
    name = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
    return _NAMES.get(name, name)


def _scores(compiled: Any, window: torch.Tensor) -> torch.Tensor:
    """Scores (1, K, *S) of one window (1, C, *S)."""
    result = compiled([window.contiguous().numpy()], share_inputs=True, share_outputs=False)
    return torch.from_numpy(result[0])
