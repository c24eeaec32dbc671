"""Objects of the user's own modules, named on the command line as ``module:name``."""

from __future__ import annotations

import importlib
import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from medseg.errors import ConfigError, did_you_mean
from medseg.task import Task

if TYPE_CHECKING:
    from medseg.training.extensions import ExtensionArguments


def load_object(reference: str, option: str) -> Any:
    """Import ``module:name``; modules in the working directory can be imported, as with ``python -m``.

    Args:
        reference: the module's dotted name and the name in it.
        option: the option that it was given with, for messages.

    Raises:
        ConfigError: if there is no such module or name, or the module cannot be imported.
    """
    module_name, _, name = reference.partition(":")
    if not module_name or not name:
        raise ConfigError(
            f"{option} {reference}: expected module:name", hint=f"For example: {option} my_module:MyName"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    found: Any = _import(module_name, f"{option} {reference}")
    for part in name.split("."):
        if not hasattr(found, part):
            hint = did_you_mean(part, _public_names(found))
            raise ConfigError(f"{option} {reference}: {module_name} has no {part!r}", hint=hint)
        found = getattr(found, part)
    if not callable(found):
        raise ConfigError(
            f"{option} {reference}: is of type {type(found).__name__}; expected a class or function"
        )
    return found


def load_network(reference: str) -> Any:
    """Return a factory for ``--network``.

    Raises:
        ConfigError: if it cannot be imported or requires unknown arguments.
    """
    from medseg.training.extensions import network_factory

    found = load_object(reference, "--network")
    if inspect.isfunction(found) or inspect.isclass(found):
        try:
            return network_factory(found, reference)
        except ConfigError as error:
            raise ConfigError(f"--network {error.message}", hint=error.hint) from error
    raise ConfigError(f"--network {reference}: is of type {type(found).__name__}; expected a class or function")


@dataclass(frozen=True)
class NamedNetwork:
    """Builds the network of ``--network``; unlike a factory, it can be sent to other processes.

    Attributes:
        reference: the module's dotted name and the name in it.
    """

    reference: str

    def __call__(self, task: Task) -> nn.Module:
        """Import and build the network."""
        network: nn.Module = load_network(self.reference)(task)
        return network


def load_loss(reference: str) -> Any:
    """Return a loss function for ``--loss``, named as on the command line; a class is called without arguments.

    Raises:
        ConfigError: if it cannot be imported or does not take logits and target.
    """
    found = load_object(reference, "--loss")
    name = f"--loss {reference}"
    if inspect.isclass(found):
        try:
            found = found()
        except TypeError as error:
            raise ConfigError(f"{name}: cannot be called without arguments: {error}") from error
    function: Any = getattr(found, "forward", found)
    try:
        inspect.signature(function).bind("logits", "target")
    except TypeError as error:
        raise ConfigError(
            f"{name}: cannot be called with logits and target: {error}",
            hint="Expected a function such as: def my_loss(logits, target): …",
        ) from error
    return _named(found, reference)


def load_extensions(network: str | None, loss: str | None) -> ExtensionArguments:
    """Import the network of ``--network`` and the loss of ``--loss``, if they are given."""
    own: ExtensionArguments = {}
    if network is not None:
        own["model"] = load_network(network)
    if loss is not None:
        own["loss"] = load_loss(loss)
    return own


def _named(loss: Any, reference: str) -> Any:
    """Give a loss the name by which it is recorded, and repeated in the command that continues the run."""
    if isinstance(loss, nn.Module):
        setattr(loss, "__qualname__", reference)  # noqa: B010 (not an attribute of the class)
        return loss

    def named(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return loss(logits, target)

    named.__qualname__ = reference
    return named


def _public_names(found: object) -> list[str]:
    return [name for name in dir(found) if not name.startswith("_")]


def _import(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise ConfigError(
                f"{name}: there is no module {error.name!r}",
                hint="Run the command in the folder that contains it, or install its package.",
            ) from error
        raise ConfigError(f"{name}: {module} cannot be imported: {error}") from error
    except Exception as error:  # whatever the user's module does when it is imported
        raise ConfigError(
            f"{name}: {module} cannot be imported: {type(error).__name__}: {error}",
            hint="Add --debug to see the traceback.",
        ) from error
