"""Backbones. ``BackboneConfig`` is their registry: a family is one file and one member of the union."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from medseg.models.backbones.common import Backbone
from medseg.models.backbones.hrnet import HRNet, HRNetConfig
from medseg.models.backbones.mobilenet import MobileNetV3, MobileNetV3Config
from medseg.models.backbones.resnet import ResNet, ResNetConfig
from medseg.models.backbones.vgg import VGG, VGGConfig

BackboneConfig = Annotated[
    ResNetConfig | VGGConfig | HRNetConfig | MobileNetV3Config,
    Field(discriminator="name"),
]

__all__ = [
    "VGG",
    "Backbone",
    "BackboneConfig",
    "HRNet",
    "HRNetConfig",
    "MobileNetV3",
    "MobileNetV3Config",
    "ResNet",
    "ResNetConfig",
    "VGGConfig",
]
