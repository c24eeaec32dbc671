"""Feature maps on their way through a network: which parts have them, and what they return."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from medseg.errors import ConfigError

Kept = TypeVar("Kept")

_INDEX = re.compile(r"\[\d+\]$")


def stages(network: nn.Module) -> list[str]:
    """The parts that a network is made of at first sight: the levels of encoder and decoder, backbone, heads.

    Lists of parts, and a wrapper around one network, count as what is in them.
    """
    return _stages(network, "")


def _stages(module: nn.Module, prefix: str) -> list[str]:
    children = list(module.named_children())
    names: list[str] = []
    for name, child in children:
        wrapper = not prefix and len(children) == 1 and any(True for _ in child.children())
        if type(child).forward is nn.Module.forward or wrapper:  # never called itself
            names += _stages(child, f"{prefix}{name}.")
        else:
            names.append(prefix + name)
    return names


@contextmanager
def captured(
    network: nn.Module, keep: Callable[[str, torch.Tensor], Kept], layers: Sequence[str] = ()
) -> Iterator[dict[str, Kept]]:
    """Collect ``keep(name, tensor)`` of what parts of ``network`` return while it runs, in the order they run.

    ``layers`` are names as of ``named_modules``; none: ``stages``. Where a part returns several tensors they
    are ``name[0]``, ``name[1]``, …, and such a name may be asked for. Of a part that runs several times it is
    the first. What comes may still be written over: ``keep`` copies what it needs.

    Raises: ConfigError for a name that is not there, with the nearest ones.
    """
    wanted = list(layers) or stages(network)
    parts = dict(network.named_modules())
    found: dict[str, Kept] = {}
    hooks: list[RemovableHandle] = []

    def watch(name: str) -> None:
        def hook(_: nn.Module, __: object, output: Any) -> None:
            for label, tensor in _tensors(name, output):
                if (label in wanted or name in wanted) and label not in found:
                    found[label] = keep(label, tensor)

        hooks.append(parts[name].register_forward_hook(hook))

    names = list(dict.fromkeys(_INDEX.sub("", layer) for layer in wanted))
    for name in names:
        if not name or name not in parts:
            raise ConfigError(_unknown(name, list(parts), stages(network)))
    try:
        for name in names:
            watch(name)
        yield found
    finally:
        for each in hooks:
            each.remove()


def _tensors(name: str, output: Any) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(output, torch.Tensor):
        yield name, output
    elif isinstance(output, Mapping):
        yield from ((f"{name}[{i}]", one) for i, one in enumerate(output.values()))
    elif isinstance(output, list | tuple):
        yield from ((f"{name}[{i}]", one) for i, one in enumerate(output) if isinstance(one, torch.Tensor))


def _unknown(name: str, known: Sequence[str], first: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=4, cutoff=0.6)
    if near:
        return f"the network has no layer {name!r}; near: {', '.join(near)}"
    return f"the network has no layer {name!r}; its first parts: {', '.join(first)}"
