"""What a backend is: something that turns windows into scores, and can say what it computes with."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import nn

from medseg.model_output import logits_of

_TELLING = [
    re.compile(pattern)
    for pattern in (
        r"(No conversion rule found [^\n]+)",
        r"(No ONNX function found for <[^\n]*?>)",
        r"Exception summary\s+<class '[^']+'>: ([^\n]+)",
    )
]


@dataclass(frozen=True)
class BackendSetup:
    """Where and how a network is to compute.

    Attributes:
        device: the device.
        dtype: of convolutions and products; None for float32 throughout.
        compiled: through ``torch.compile``.
        one_size: whether all windows have the same size.
    """

    device: torch.device
    dtype: torch.dtype | None = None
    compiled: bool = False
    one_size: bool = True


@dataclass(frozen=True)
class BackendInfo:
    """What computes, for the record.

    Attributes:
        backend, version: the software.
        precision: what it computes in.
        difference: between the converted network's scores and torch's, both in float32, on the first window:
            the largest, in standard deviations of torch's. None for torch itself, and before the first window.
        why: what decided against another backend, if anything did.
    """

    backend: str
    version: str
    precision: str
    difference: float | None = None
    why: str = ""

    @property
    def record(self) -> dict[str, Any]:
        """As it stands in the provenance."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "")}

    def __str__(self) -> str:
        text = f"{self.backend} {self.version}, {self.precision}"
        if self.difference is not None:
            text += f"; in float32 at most {self.difference:.1g} standard deviations from torch"
        return f"{text} ({self.why})" if self.why else text


class Backend(Protocol):
    """A network, in evaluation mode, on a runtime. ``name`` is what the user calls it.

    It is made quickly: what takes long waits for the first windows.
    """

    name: ClassVar[str]

    def __init__(self, network: nn.Module, setup: BackendSetup) -> None: ...

    @staticmethod
    def unavailable_reason(setup: BackendSetup) -> str | None:
        """Why it cannot be used here at all, such as a package that is missing; None if it can."""
        ...

    @property
    def info(self) -> BackendInfo:
        """What computes; for one that decides by the first windows, as far as it is decided."""
        ...

    def predict(self, windows: torch.Tensor) -> torch.Tensor:
        """Windows (B, C, *S), on the device or the CPU, to scores (B, K, *S) on the device. Raises:
        ConversionError.
        """
        ...


class Logits(nn.Module):
    """A network whose only result are its logits (B, K, *S), whatever it returns itself."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return logits_of(self.network(image))


def precision_of(dtype: torch.dtype | None) -> str:
    """The name of what is computed in, ``float32`` for None."""
    return str(dtype or torch.float32).removeprefix("torch.")


def difference(scores: torch.Tensor, reference: torch.Tensor) -> tuple[float, float]:
    """The largest and the mean absolute difference of scores, in standard deviations of the reference."""
    away = (scores.float() - reference).abs()
    spread = reference.std().clamp(min=torch.finfo(torch.float32).tiny)
    return (away.amax() / spread).item(), (away.mean() / spread).item()


def one_line(error: BaseException, most: int = 160) -> str:
    """The line of an error that says what is wrong; torch's and OpenVINO's have many around it."""
    text = str(error).split(" For more information")[0]
    lines = [line.strip() for line in text.splitlines()]
    around = ("Check '", "Converting", "FrontEnd API", "Failed to", "from ")
    telling = [found[1] for pattern in _TELLING if (found := pattern.search(text))]
    telling += [line for line in lines if line and not line.startswith(around)]
    line = (telling or lines or [""])[0] or type(error).__name__
    return line if len(line) <= most else line[: most - 1] + "…"
