"""Feature maps within a network: the parts that compute them, and hooks that collect them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from medseg.errors import ConfigError

Kept = TypeVar("Kept")

_INDEX = re.compile(r"\[\d+\]$")


def main_parts(network: nn.Module) -> list[str]:
    """Return the names of a network's main parts: levels of encoder and decoder, backbone, heads.

    A list of parts, or a wrapper around a single network, is replaced by its content.
    """
    return _main_parts(network, "")


def _main_parts(module: nn.Module, prefix: str) -> list[str]:
    children = list(module.named_children())
    names: list[str] = []
    for name, child in children:
        wrapper = not prefix and len(children) == 1 and any(True for _ in child.children())
        if type(child).forward is nn.Module.forward or wrapper:  # a container that is never called
            names += _main_parts(child, f"{prefix}{name}.")
        else:
            names.append(prefix + name)
    return names


@contextmanager
def collect_features(
    network: nn.Module, keep: Callable[[str, torch.Tensor], Kept], layers: Sequence[str] = ()
) -> Iterator[dict[str, Kept]]:
    """Collect ``keep(name, tensor)`` of the outputs of parts of a network while it runs within the context.

    The results are in the order in which the parts run. A part that returns several tensors gives
    ``name[0]``, ``name[1]``, …, which can also be selected by these names. If a part runs several times, the
    first output is kept.

    Args:
        network: the network.
        keep: called with a part's name and output. Later layers may overwrite the output in place, so ``keep``
            must copy what it needs.
        layers: names as in ``named_modules``; default: ``main_parts``.

    Raises:
        ConfigError: if a name does not exist; the message lists similar ones.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
        >>> with collect_features(network, lambda name, tensor: tuple(tensor.shape), ["0"]) as shapes:
        ...     _ = network(torch.zeros(1, 1, 8, 8))
        >>> shapes
        {'0': (1, 4, 6, 6)}
    """
    wanted = list(layers) or main_parts(network)
    parts = dict(network.named_modules())
    features: dict[str, Kept] = {}
    hooks: list[RemovableHandle] = []

    def add_hook(name: str) -> None:
        def hook(_: nn.Module, __: object, output: object) -> None:
            for label, tensor in _tensors(name, output):
                if (label in wanted or name in wanted) and label not in features:
                    features[label] = keep(label, tensor)

        hooks.append(parts[name].register_forward_hook(hook))

    names = list(dict.fromkeys(_INDEX.sub("", layer) for layer in wanted))
    for name in names:
        if not name or name not in parts:
            raise _unknown_layer(name, list(parts), main_parts(network))
    try:
        for name in names:
            add_hook(name)
        yield features
    finally:
        for handle in hooks:
            handle.remove()


def _tensors(name: str, output: object) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(output, torch.Tensor):
        yield name, output
        return
    values: Sequence[object] = ()
    if isinstance(output, Mapping):
        values = list(output.values())
    elif isinstance(output, list | tuple):
        values = output
    yield from ((f"{name}[{i}]", value) for i, value in enumerate(values) if isinstance(value, torch.Tensor))


def _unknown_layer(name: str, names: Sequence[str], parts: Sequence[str]) -> ConfigError:
    similar = difflib.get_close_matches(name, names, n=4, cutoff=0.6)
    if similar:
        return ConfigError(f"the network has no layer {name!r}; similar names: {', '.join(similar)}")
    return ConfigError(f"the network has no layer {name!r}; its main parts: {', '.join(parts)}")
