"""What each architecture costs: its parameters and its operations, counted on its defaults."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch.utils.flop_counter import FlopCounterMode

from medseg.errors import ConfigError
from medseg.models import InjectedConfig, ModelConfig, parameter_count
from medseg.spec import Spec
from medseg.task import Task


@dataclass(frozen=True)
class Entry:
    """One architecture.

    Attributes:
        dims: spatial dimensions it can have.
        parameters: of its defaults in 2D, for 3 channels and 21 classes.
        flops: of one such image, an addition and a multiplication counted as two; none where the defaults
            take no image of that size.
        source: its paper, from its settings' docstring.
    """

    name: str
    dims: tuple[int, ...]
    parameters: int | None
    flops: int | None
    source: str


def catalogue(size: int = 128) -> list[Entry]:
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


def as_table(entries: list[Entry]) -> str:
    """The architectures as a table in Markdown, that of ``docs/models.md``."""
    lines = ["| `model.name` | dims | parameters | GFLOPs | source |", "|---|---|---:|---:|---|"]
    for entry in entries:
        count = "–" if entry.parameters is None else f"{entry.parameters:,}"
        flops = "–" if entry.flops is None else f"{entry.flops / 1e9:.2f}"
        dims = ", ".join(map(str, entry.dims))
        lines.append(f"| `{entry.name}` | {dims} | {count} | {flops} | {entry.source} |")
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
    dims = tuple(d for d in (2, 3) if _build(config, d) is not None)
    network = _build(config, 2)
    if network is None:
        return Entry(name, dims, None, None, _source(config))
    network.eval()
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        try:
            channels = next(p.shape[1] for p in network.parameters() if p.ndim == 4)
            network(torch.empty(1, channels, size, size))
        except (ValueError, RuntimeError):
            return Entry(name, dims, parameter_count(network), None, _source(config))
    return Entry(name, dims, parameter_count(network), counter.get_total_flops(), _source(config))


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
