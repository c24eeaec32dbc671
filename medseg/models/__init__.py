"""Networks. ``ModelConfig`` is their registry: an architecture is one file and one member of the union."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import nn

from medseg.models.injected import InjectedConfig
from medseg.models.unet import UNet, UNetConfig
from medseg.output import Output, as_output, logits_of

ModelConfig = Annotated[
    UNetConfig | InjectedConfig,
    Field(discriminator="name"),
]


def parameter_count(module: nn.Module) -> int:
    """Number of trainable parameters of a network."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


__all__ = [
    "InjectedConfig",
    "ModelConfig",
    "Output",
    "UNet",
    "UNetConfig",
    "as_output",
    "logits_of",
    "parameter_count",
]
