"""Options that change how a network computes in training, not what it computes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from medseg.training.options import TrainConfig

_LOGGER = logging.getLogger(__name__)


def checkpoint_stages(network: nn.Module) -> int:
    """Let the stages of a network recompute their activations in the backward pass instead of keeping them.

    Stages (:func:`stages`) with running statistics are left out: they would be updated twice. Memory of the
    activations falls to that of the stages' results; the gradients are the same (Chen et al. 2016,
    arXiv:1604.06174).

    Args:
        network: changed in place; names of parameters stay the same.

    Returns:
        The number of stages.
    """
    plain = [stage for stage in stages(network) if not any(map(has_statistics, stage.modules()))]
    for stage in plain:
        stage.forward = _recompute(stage, stage.forward)
    return len(plain)


def stages(network: nn.Module) -> list[nn.Module]:
    """Return the stages of a network: the levels of an encoder or decoder, the stages of a backbone.

    A stage is an entry of a ``ModuleList``, or a ``Sequential``, that is a child of the network or of one of
    its children.
    """
    return list(_stages(network, depth=2))


def compile_network(network: nn.Module, device: torch.device) -> bool:
    """Compile a network in place by ``torch.compile``; return whether this machine can.

    Args:
        network: names of parameters stay the same.
        device: the device that computes.
    """
    try:
        probe = torch.compile(_double)
        probe(torch.ones(2, device=device))
    except Exception as error:  # whatever is missing: a C++ compiler, Triton, a supported Python
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        _LOGGER.warning("train.compile has no effect: torch.compile does not work here (%s)", reason)
        return False
    network.compile()
    return True


def frozen_norms(network: nn.Module, prefixes: tuple[str, ...]) -> list[nn.Module]:
    """Return the batch norms in frozen parts, whose running statistics must not change either.

    Args:
        network: the network.
        prefixes: of the names of frozen parameters.
    """
    return [
        module
        for name, module in network.named_modules()
        if has_statistics(module) and prefixes and f"{name}.".startswith(prefixes)
    ]


@contextmanager
def cumulative_statistics(network: nn.Module, norms: Sequence[nn.Module]) -> Iterator[None]:
    """Let norms compute their running statistics again, as the means over all batches inside the block.

    Args:
        network: in evaluation mode; the rest of it computes as in evaluation.
        norms: those with running statistics.
    """
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        reset: Any = norm.reset_running_stats
        reset()
        norm.momentum = None  # pyright: ignore[reportArgumentType] (the mean over all batches)
        norm.train()
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        network.eval()


def _double(x: torch.Tensor) -> torch.Tensor:
    return x * 2


def has_statistics(module: nn.Module) -> bool:
    """Return whether a module is a norm with running statistics."""
    return isinstance(module, _BatchNorm | nn.modules.instancenorm._InstanceNorm) and module.track_running_stats


def _stages(module: nn.Module, depth: int) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from (entry for entry in child if any(True for _ in entry.children()))
        elif isinstance(child, nn.Sequential):
            yield child
        elif depth > 1:
            yield from _stages(child, depth - 1)


def _recompute(stage: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(forward)
    def forward_again(*inputs: Any) -> Any:
        if not (stage.training and torch.is_grad_enabled()):
            return forward(*inputs)
        return checkpoint(forward, *inputs, use_reentrant=False)

    return forward_again


def set_network_options(network: nn.Module, options: TrainConfig, device: torch.device) -> None:
    """Set how the network computes; its moving average, which only predicts, stays as it is."""
    if options.gradient_checkpointing:
        _LOGGER.info("gradient checkpointing: %d stages are computed again", checkpoint_stages(network))
    if options.compile:
        compile_network(network, device)
