"""What each architecture costs and sees: parameters, operations, receptive field, counted on its defaults."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch.utils.flop_counter import FlopCounterMode

from medseg.config.base import Spec
from medseg.errors import ConfigError
from medseg.models import InjectedConfig, ModelConfig, parameter_count
from medseg.models.inspection.receptive_field import network_reach
from medseg.task import Task

FieldOfView = tuple[int, int] | Literal["all"] | None


@dataclass(frozen=True)
class Entry:
    """One architecture.

    Attributes:
        dims: spatial dimensions it can have.
        parameters: of its defaults in 2D, for 3 channels and 21 classes.
        flops: of one such image, an addition and a multiplication counted as two; none where the defaults
            take no image of that size.
        receptive_field: voxels along one axis that an output voxel sees, of those that see least and most;
            ``all`` of the image. Norms do not count.
        output_stride: of the coarsest feature map.
        source: its paper, from its settings' docstring.
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
        """The receptive field in words: ``404``, ``188–204``, ``all``."""
        return _in_words(self.receptive_field)


def catalog(size: int = 128) -> list[Entry]:
    """Every member of the union of models, counted on an image of ``size`` × ``size``."""
    return [_entry(config, size) for config in model_configs()]


@dataclass(frozen=True)
class Level:
    """One part of a network and the shape (C, *S) of what it returns."""

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int


def levels(
    config: Any, size: tuple[int, ...], *, channels: int = 1, classes: int = 2, depth: int = 2
) -> list[Level]:
    """The shapes within a network, part by part in the order they run, for an image of ``size``.

    ``depth`` is how deep into the nested parts to look. Raises: ConfigError or ValueError as the network.
    """
    task = Task(2 if len(size) == 2 else 3, channels, classes)
    network = _built(config, task)
    if network is None:
        config.build(task)  # says why
        raise ConfigError(f"{config.name}: cannot be built for an image of {size}")
    network.eval()
    found: list[Level] = []

    def note(name: str, module: torch.nn.Module) -> None:
        def hook(_: Any, __: Any, output: Any) -> None:
            several = isinstance(output, list | tuple)
            for i, one in enumerate(output if several else [output]):
                if isinstance(one, torch.Tensor):
                    shape = tuple(int(n) for n in one.shape[1:])
                    label = f"{name}[{i}]" if several else name
                    found.append(Level(label, type(module).__name__, shape, parameter_count(module)))

        module.register_forward_hook(hook)

    for name, module in network.named_modules():
        if name and name.count(".") < depth:
            note(name, module)
    with torch.no_grad(), torch.device("meta"):
        network(torch.empty(1, channels, *size))
    return found


def describe_reach(config: Any, size: tuple[int, ...], *, channels: int = 1) -> str:
    """Receptive field and output stride in words: along the last axis, of the 2D form where there is one."""
    for dims in sorted({2, len(size)}):
        network = _built(config, Task(2 if dims == 2 else 3, channels, 2))
        if network is not None:
            field, stride = _reach(config, network, dims, channels)
            return f"receptive field {_in_words(field)}, output stride {stride or '–'}"
    return "receptive field not known"


def as_table(entries: list[Entry]) -> str:
    """The architectures as a table in Markdown, that of ``docs/reference/architectures.md``."""
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


def cost(config: Any, task: Task, size: tuple[int, ...]) -> tuple[int, int]:
    """Parameters of a network, and its operations on one image of ``size``."""
    network = config.build(task).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, task.in_channels, *size))
    return parameter_count(network), counter.get_total_flops()


def model_configs() -> list[type[Spec]]:
    """The settings' classes of all architectures, without a user's own."""
    union = get_args(ModelConfig)[0]
    return [config for config in get_args(union) if config is not InjectedConfig]


def _entry(config: type[Spec], size: int) -> Entry:
    name = str(config.model_fields["name"].default)
    network = _build(config, 2)
    dims = tuple(d for d in (2, 3) if (network if d == 2 else _build(config, d)) is not None)
    if network is None:
        return Entry(name, dims, None, None, None, None, _source(config))
    network.eval()
    channels = next(int(p.shape[1]) for p in network.parameters() if p.ndim == 4)
    count = parameter_count(network)
    field, stride = _reach(config(), network, 2, channels)
    return Entry(name, dims, count, _flops(network, channels, size), field, stride, _source(config))


def _flops(network: torch.nn.Module, channels: int, size: int) -> int | None:
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        try:
            network(torch.empty(1, channels, size, size))
        except (ValueError, RuntimeError):
            return None
    return counter.get_total_flops()


def _reach(config: Any, network: torch.nn.Module, dims: int, channels: int) -> tuple[FieldOfView, int | None]:
    """Receptive field and output stride; none where they are not known."""
    most = getattr(config, "image_size", None)  # of networks for one size of image
    try:
        found = network_reach(network, dims, channels, most if isinstance(most, int) else None)
    except (NotImplementedError, ValueError, RuntimeError):
        return None, None
    if found.smallest is None or found.largest is None:
        return "all", found.stride
    return (found.smallest, found.largest), found.stride


def _build(config: Any, dims: int) -> torch.nn.Module | None:
    """A network of the defaults, without memory for its weights; none where there is no such form."""
    for channels in (3, 1):  # V-Net repeats the image's channels and takes no three
        network = _built(config(), Task(2 if dims == 2 else 3, channels, 21))
        if network is not None:
            return network
    return None


def _built(config: Any, task: Task) -> torch.nn.Module | None:
    try:
        try:
            with torch.device("meta"):
                return config.build(task)
        except (RuntimeError, NotImplementedError):  # its initial values are computed from numbers
            return config.build(task).to("meta")
    except (ConfigError, ValueError):
        return None


def _source(config: type[Spec]) -> str:
    """The first paper that a docstring names."""
    text = " ".join((config.__doc__ or "").split())
    found = re.search(r"\(([^()]*(?:arXiv:|doi:)[^()]*)\)", text)
    return found[1] if found else text.split(". ")[0]


def _in_words(field: FieldOfView) -> str:
    if field is None or isinstance(field, str):
        return field or "–"
    return str(field[1]) if field[0] == field[1] else f"{field[0]}–{field[1]}"
