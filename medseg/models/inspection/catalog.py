"""Catalog of the architectures: parameters, operations and receptive field of each one's defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch.utils.flop_counter import FlopCounterMode

from medseg.errors import ConfigError
from medseg.models import CustomModelConfig, ModelConfig, parameter_count
from medseg.models.base import ArchitectureConfig
from medseg.models.inspection.receptive_field import network_receptive_field
from medseg.task import Task

FieldOfView = tuple[int, int] | Literal["all"] | None
"""Smallest and largest receptive field along one axis; ``all`` of the image; None if unknown."""


@dataclass(frozen=True)
class CatalogEntry:
    """Facts about one architecture.

    Attributes:
        name: value of ``model.name``.
        dims: numbers of spatial dimensions that it supports.
        parameters: number of parameters of its defaults in 2D, for 3 channels and 21 classes.
        flops: number of operations on one such image, where an addition and a multiplication count as two;
            None if the defaults do not accept an image of that size.
        receptive_field: in voxels along one axis, without the effect of norms.
        output_stride: stride of the coarsest feature map.
        source: the paper.
    """

    name: str
    dims: tuple[int, ...]
    parameters: int | None
    flops: int | None
    receptive_field: FieldOfView
    output_stride: int | None
    source: str

    @property
    def field(self) -> str:
        """The receptive field as text: ``404``, ``188–204``, ``all``."""
        return _format_field(self.receptive_field)


@dataclass(frozen=True)
class LayerShape:
    """A part of a network and the shape (C, *S) of its output.

    Attributes:
        name: name of the part in ``named_modules``.
        kind: name of its class.
        shape: shape of its output without the batch axis.
        parameters: its number of trainable parameters.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int


def architecture_configs() -> list[type[ArchitectureConfig]]:
    """Return the settings classes of all architectures, in the order of ``ModelConfig``."""
    union = get_args(ModelConfig)[0]
    return [config for config in get_args(union) if config is not CustomModelConfig]


def build_catalog(size: int = 128) -> list[CatalogEntry]:
    """Return an entry for every architecture, with operations counted on an image of ``size`` × ``size``."""
    return [_entry(config, size) for config in architecture_configs()]


def markdown_table(entries: list[CatalogEntry]) -> str:
    """Format entries as the Markdown table of ``docs/reference/architectures.md``."""
    lines = [
        "| `model.name` | dims | parameters | GFLOPs | field | stride | source |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for entry in entries:
        count = "–" if entry.parameters is None else f"{entry.parameters:,}"
        flops = "–" if entry.flops is None else f"{entry.flops / 1e9:.2f}"
        dims = ", ".join(map(str, entry.dims))
        cells = (f"`{entry.name}`", dims, count, flops, entry.field, entry.output_stride or "–", entry.source)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def layer_shapes(
    config: ArchitectureConfig, size: tuple[int, ...], *, channels: int = 1, classes: int = 2, depth: int = 2
) -> list[LayerShape]:
    """Return the output shapes within a network, part by part in the order in which they run.

    Args:
        config: settings of the network.
        size: spatial size of the image, 2 or 3 axes.
        channels: number of image channels.
        classes: number of classes.
        depth: how deep into nested parts to look.

    Raises:
        ConfigError: if the settings do not fit the task.
        ValueError: if the network does not accept an image of ``size``.
    """
    network = _build_without_memory(config, Task(2 if len(size) == 2 else 3, channels, classes)).eval()
    shapes: list[LayerShape] = []

    def record(name: str, module: torch.nn.Module) -> None:
        def hook(_: torch.nn.Module, __: object, output: object) -> None:
            several = isinstance(output, list | tuple)
            for i, one in enumerate(output if several else [output]):
                if isinstance(one, torch.Tensor):
                    shape = tuple(int(n) for n in one.shape[1:])
                    label = f"{name}[{i}]" if several else name
                    shapes.append(LayerShape(label, type(module).__name__, shape, parameter_count(module)))

        module.register_forward_hook(hook)

    for name, module in network.named_modules():
        if name and name.count(".") < depth:
            record(name, module)
    with torch.no_grad(), torch.device("meta"):
        network(torch.empty(1, channels, *size))
    return shapes


def describe_receptive_field(config: ArchitectureConfig, size: tuple[int, ...], *, channels: int = 1) -> str:
    """Describe receptive field and output stride along the last axis, of the 2D form if there is one."""
    for dims in sorted({2, len(size)}):
        network = _try_build(config, Task(2 if dims == 2 else 3, channels, 2))
        if network is not None:
            field, stride = _receptive_field(config, network, dims, channels)
            return f"receptive field {_format_field(field)}, output stride {stride or '–'}"
    return "receptive field unknown"


def count_cost(config: ArchitectureConfig, task: Task, size: tuple[int, ...]) -> tuple[int, int]:
    """Return a network's number of parameters and of operations on one image of ``size``."""
    network = config.build(task).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, task.in_channels, *size))
    return parameter_count(network), counter.get_total_flops()


def _entry(config: type[ArchitectureConfig], size: int) -> CatalogEntry:
    name = str(config.model_fields["name"].default)
    network = _build_default(config, 2)
    dims = tuple(d for d in (2, 3) if (network if d == 2 else _build_default(config, d)) is not None)
    if network is None:
        return CatalogEntry(name, dims, None, None, None, None, config.paper)
    network.eval()
    channels = next(int(p.shape[1]) for p in network.parameters() if p.ndim == 4)
    count = parameter_count(network)
    field, stride = _receptive_field(config(), network, 2, channels)
    return CatalogEntry(name, dims, count, _count_flops(network, channels, size), field, stride, config.paper)


def _count_flops(network: torch.nn.Module, channels: int, size: int) -> int | None:
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        try:
            network(torch.empty(1, channels, size, size))
        except (ValueError, RuntimeError):
            return None
    return counter.get_total_flops()


def _receptive_field(
    config: ArchitectureConfig, network: torch.nn.Module, dims: int, channels: int
) -> tuple[FieldOfView, int | None]:
    """Return receptive field and output stride; None where they are unknown."""
    largest = getattr(config, "image_size", None)  # of networks for one image size
    try:
        field = network_receptive_field(network, dims, channels, largest if isinstance(largest, int) else None)
    except (NotImplementedError, ValueError, RuntimeError):
        return None, None
    if field.smallest is None or field.largest is None:
        return "all", field.stride
    return (field.smallest, field.largest), field.stride


def _build_default(config: type[ArchitectureConfig], dims: int) -> torch.nn.Module | None:
    """Build a network with default settings; None if it does not support ``dims``."""
    for channels in (3, 1):  # V-Net does not accept three channels
        network = _try_build(config(), Task(2 if dims == 2 else 3, channels, 21))
        if network is not None:
            return network
    return None


def _try_build(config: ArchitectureConfig, task: Task) -> torch.nn.Module | None:
    try:
        return _build_without_memory(config, task)
    except (ConfigError, ValueError):
        return None


def _build_without_memory(config: ArchitectureConfig, task: Task) -> torch.nn.Module:
    """Build a network on the meta device, where its weights need no memory."""
    try:
        with torch.device("meta"):
            return config.build(task)
    except (RuntimeError, NotImplementedError):  # its initial values are computed from numbers
        return config.build(task).to("meta")


def _format_field(field: FieldOfView) -> str:
    if field is None or isinstance(field, str):
        return field or "–"
    return str(field[1]) if field[0] == field[1] else f"{field[0]}–{field[1]}"
