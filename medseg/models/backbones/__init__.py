"""Backbones.

The union ``BackboneConfig`` is the registry. To add a backbone, write a module with its ``BackboneSpec`` and
``Backbone``, and add the former to the union.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from medseg.models.backbones.common import Backbone, BackboneSpec
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
    "BackboneSpec",
    "HRNet",
    "HRNetConfig",
    "MobileNetV3",
    "MobileNetV3Config",
    "ResNet",
    "ResNetConfig",
    "VGGConfig",
]
