"""What a training takes from your own code: network, loss, transforms, callbacks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from torch import nn

from medseg.config.schema import RunConfig
from medseg.data.loading.sampling.user_transforms import SampleTransform
from medseg.errors import ConfigError
from medseg.losses import CustomLoss, CustomLossConfig, LossFunction
from medseg.models import CustomModelConfig
from medseg.task import Task
from medseg.training.tracking.callbacks import Callback

NetworkFactory = Callable[[Task], nn.Module]
"""Builds a network for a task."""


class ExtensionArguments(TypedDict, total=False):
    """Keyword arguments of :func:`medseg.training.fit.fit` for your own code; see :class:`Extensions`."""

    model: nn.Module | NetworkFactory | None
    loss: LossFunction | None
    transforms: SampleTransform | Sequence[SampleTransform]
    callbacks: Callback | Sequence[Callback]


@dataclass(frozen=True)
class Extensions:
    """Your own code in a training.

    Attributes:
        model: a network instead of the one that ``config.model`` describes, or a function that builds it for a
            :class:`medseg.task.Task`. It maps (B, C, *S) to what :func:`medseg.model_output.as_output` adapts.
        loss: a function of logits (B, K, *S) and target to a scalar, instead of ``config.loss``.
        transforms: functions of a sample; see
            :func:`medseg.data.loading.sampling.user_transforms.apply_transforms`.
        callbacks: see :class:`medseg.training.tracking.callbacks.Callback`.
    """

    model: nn.Module | NetworkFactory | None = None
    loss: LossFunction | None = None
    transforms: tuple[SampleTransform, ...] = ()
    callbacks: tuple[Callback, ...] = ()

    @classmethod
    def of(cls, arguments: ExtensionArguments) -> Extensions:
        """Return the extensions for keyword arguments; a single transform or callback needs no list."""
        several = {key: _as_tuple(arguments.get(key, ())) for key in ("transforms", "callbacks")}
        given: dict[str, Any] = {**arguments, **several}
        return cls(**given)

    def record_in(self, config: RunConfig) -> RunConfig:
        """Return the settings with the names of the network and the loss in place of the replaced ones."""
        update: dict[str, Any] = {}
        if self.model is not None:
            update["model"] = CustomModelConfig(class_name=_name(self.model))
        if self.loss is not None:
            update["loss"] = CustomLossConfig(function=_name(self.loss))
        return config.model_copy(update=update)

    def names(self) -> dict[str, Any]:
        """Return the names of the parts that are given, for the record."""
        parts: dict[str, Any] = {
            "model": self.model and _name(self.model),
            "loss": self.loss and _name(self.loss),
            "transforms": [_name(one) for one in self.transforms],
            "callbacks": [_name(one) for one in self.callbacks],
        }
        return {key: value for key, value in parts.items() if value}

    def build_network(self, task: Task) -> nn.Module | None:
        """Return the network; None without one.

        Raises:
            ConfigError: if the function does not return a network.
        """
        if self.model is None or isinstance(self.model, nn.Module):
            return self.model
        network: object = self.model(task)
        if not isinstance(network, nn.Module):
            raise ConfigError(
                f"{_name(self.model)}: returned {type(network).__name__}; expected a torch.nn.Module"
            )
        return network

    def build_loss(self, task: Task) -> CustomLoss | None:
        """Return the loss; None without one."""
        return None if self.loss is None else CustomLoss(self.loss, task.activation)


NO_EXTENSIONS = Extensions()


def network_factory(build: Callable[..., object], name: str) -> NetworkFactory:
    """Return a function that calls a class or function with the properties of the task that it names.

    Args:
        build: accepts some of ``task``, ``spatial_dims``, ``in_channels``, ``out_channels``, ``num_classes``.
        name: of ``build``, for messages.

    Raises:
        ConfigError: if it requires other arguments.

    Example:
        >>> def one_layer(in_channels, out_channels, kernel=1):
        ...     return nn.Conv3d(in_channels, out_channels, kernel)
        >>> network_factory(one_layer, "nets:one_layer")(Task(3, 1, 2))
        Conv3d(1, 2, kernel_size=(1, 1, 1), stride=(1, 1, 1))
    """
    parameters = inspect.signature(build).parameters.values()
    known = ("task", "spatial_dims", "in_channels", "out_channels", "num_classes")
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    wanted = [p.name for p in named if p.name in known]
    missing = [p.name for p in named if p.default is p.empty and p.name not in known]
    if missing:
        raise ConfigError(
            f"{name}: requires {', '.join(missing)}",
            hint=f"It is called with those of {', '.join(known)} that it has; give the others defaults.",
        )

    def build_network(task: Task) -> Any:
        values = {
            "task": task,
            "spatial_dims": task.spatial_dims,
            "in_channels": task.in_channels,
            "out_channels": task.num_classes,
            "num_classes": task.num_classes,
        }
        return build(**{key: values[key] for key in wanted})

    build_network.__qualname__ = name
    return build_network


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _name(value: object) -> str:
    return getattr(value, "__qualname__", type(value).__name__)
