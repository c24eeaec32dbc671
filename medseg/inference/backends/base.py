"""The backend protocol: compute logits from windows and describe the runtime that computes them."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import nn

from medseg.model_output import logits_of

_CAUSES = [
    re.compile(pattern)
    for pattern in (
        r"(No conversion rule found [^\n]+)",
        r"(No ONNX function found for <[^\n]*?>)",
        r"Exception summary\s+<class '[^']+'>: ([^\n]+)",
    )
]


@dataclass(frozen=True)
class BackendSetup:
    """Where and how a network computes.

    Attributes:
        device: device of the network and the logits.
        dtype: data type of convolutions and matrix products. If None, everything is computed in float32.
        compiled: whether to use ``torch.compile``.
        one_size: whether all windows have the same size.
    """

    device: torch.device
    dtype: torch.dtype | None = None
    compiled: bool = False
    one_size: bool = True


@dataclass(frozen=True)
class BackendInfo:
    """Description of the runtime, for logs and provenance.

    Attributes:
        backend: name of the software.
        version: its version.
        precision: effective data type, such as ``bfloat16``.
        difference: maximum absolute difference between the logits of the converted network and of torch, both
            in float32, on the first window, in standard deviations of torch's logits. None for torch, and
            before the first window.
        why: reason why no other backend is used; empty if there is none.
    """

    backend: str
    version: str
    precision: str
    difference: float | None = None
    why: str = ""

    @property
    def record(self) -> dict[str, Any]:
        """The fields that are set, as JSON values for the provenance."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "")}

    def __str__(self) -> str:
        text = f"{self.backend} {self.version}, {self.precision}"
        if self.difference is not None:
            text += f"; in float32 at most {self.difference:.1g} standard deviations from torch"
        return f"{text} ({self.why})" if self.why else text


class Backend(Protocol):
    """Protocol of a network on a runtime.

    The constructor is fast; slow work such as conversion is deferred to the first windows.

    Attributes:
        name: name of the backend in ``--backend``.
    """

    name: ClassVar[str]

    def __init__(self, network: nn.Module, setup: BackendSetup) -> None: ...

    @staticmethod
    def unavailable_reason(setup: BackendSetup) -> str | None:
        """Return why the backend cannot be used, such as a missing package; None if it can."""
        ...

    @property
    def info(self) -> BackendInfo:
        """Description of the runtime; may change when the first windows are computed."""
        ...

    def predict(self, windows: torch.Tensor) -> torch.Tensor:
        """Compute logits.

        Args:
            windows: (B, C, *S), on the device or the CPU.

        Returns:
            Logits (B, K, *S) on the device.

        Raises:
            ConversionError: the network cannot be converted, or gives other logits than torch.
        """
        ...


class Logits(nn.Module):
    """Wrap a network so that it returns only its logits (B, K, *S)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return logits_of(self.network(image))


def precision_of(dtype: torch.dtype | None) -> str:
    """Return the name of a data type; ``float32`` if None."""
    return str(dtype or torch.float32).removeprefix("torch.")


def difference(logits: torch.Tensor, reference: torch.Tensor) -> tuple[float, float]:
    """Return the maximum and the mean absolute difference, in standard deviations of the reference."""
    away = (logits.float() - reference).abs()
    spread = reference.std().clamp(min=torch.finfo(torch.float32).tiny)
    return (away.amax() / spread).item(), (away.mean() / spread).item()


def one_line(error: BaseException, most: int = 160) -> str:
    """Extract the line of an error that names the cause; errors of torch and OpenVINO span many lines.

    Args:
        error: the error.
        most: maximum number of characters.
    """
    text = str(error).split(" For more information")[0]
    lines = [line.strip() for line in text.splitlines()]
    context = ("Check '", "Converting", "FrontEnd API", "Failed to", "from ")
    causes = [match[1] for pattern in _CAUSES if (match := pattern.search(text))]
    causes += [line for line in lines if line and not line.startswith(context)]
    line = (causes or lines or [""])[0] or type(error).__name__
    return line if len(line) <= most else line[: most - 1] + "…"
