"""Architectures.

The union ``ModelConfig`` is the registry. To add an architecture, write a module with its settings (a subclass
of ``ArchitectureConfig`` with a literal ``name``, the ``paper`` and ``build``) and its network (a subclass of
``SegmentationNetwork`` or ``BackboneNetwork``), and add the settings to the union. Configuration files can then
select it by name, ``medseg models list`` shows it, and the contract tests in
``tests/models/test_models_contract.py`` run on it.

Detectors, which return objects instead of logits, have a union of their own, ``DetectorConfig``.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import nn

from medseg.model_output import Output, as_output, logits_of
from medseg.models.backbone_unet import BackboneUNet, BackboneUNetConfig
from medseg.models.base import (
    ArchitectureConfig,
    BackboneNetwork,
    CustomModelConfig,
    SegmentationNetwork,
)
from medseg.models.deeplab import (
    DeepLabV1,
    DeepLabV1Config,
    DeepLabV2,
    DeepLabV2Config,
    DeepLabV3,
    DeepLabV3Config,
    DeepLabV3Plus,
    DeepLabV3PlusConfig,
)
from medseg.models.detection import DetectorConfig, MaskRCNNConfig, RetinaUNetConfig
from medseg.models.fcn import FCN, FCNVGG, FCNConfig, FCNVGGConfig
from medseg.models.fpn import FPN, FPNConfig
from medseg.models.hrnetv2 import HRNetV2, HRNetV2Config
from medseg.models.lraspp import LRASPP, LRASPPConfig
from medseg.models.monai_nets import (
    DynUNetConfig,
    MedNeXtConfig,
    SegResNetConfig,
    SwinUNETRConfig,
    UNETRConfig,
    VNetConfig,
)
from medseg.models.pspnet import PSPNet, PSPNetConfig
from medseg.models.unet import UNet, UNetConfig
from medseg.models.unet_valid import UNetValid, UNetValidConfig
from medseg.models.unetpp import UNetPlusPlus, UNetPlusPlusConfig

ModelConfig = Annotated[
    UNetConfig
    | UNetValidConfig
    | FCNConfig
    | FCNVGGConfig
    | DeepLabV1Config
    | DeepLabV2Config
    | DeepLabV3Config
    | DeepLabV3PlusConfig
    | PSPNetConfig
    | HRNetV2Config
    | LRASPPConfig
    | FPNConfig
    | BackboneUNetConfig
    | UNetPlusPlusConfig
    | SegResNetConfig
    | DynUNetConfig
    | VNetConfig
    | MedNeXtConfig
    | SwinUNETRConfig
    | UNETRConfig
    | CustomModelConfig,
    Field(discriminator="name"),
]

AnyModelConfig = Annotated[ModelConfig | DetectorConfig, Field(discriminator="name")]
"""Settings of an architecture that returns logits, or of a detector."""


def parameter_count(module: nn.Module) -> int:
    """Return the number of trainable parameters of a network."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


__all__ = [
    "FCN",
    "FCNVGG",
    "FPN",
    "LRASPP",
    "AnyModelConfig",
    "ArchitectureConfig",
    "BackboneNetwork",
    "BackboneUNet",
    "BackboneUNetConfig",
    "CustomModelConfig",
    "DeepLabV1",
    "DeepLabV1Config",
    "DeepLabV2",
    "DeepLabV2Config",
    "DeepLabV3",
    "DeepLabV3Config",
    "DeepLabV3Plus",
    "DeepLabV3PlusConfig",
    "DetectorConfig",
    "DynUNetConfig",
    "FCNConfig",
    "FCNVGGConfig",
    "FPNConfig",
    "HRNetV2",
    "HRNetV2Config",
    "LRASPPConfig",
    "MaskRCNNConfig",
    "MedNeXtConfig",
    "ModelConfig",
    "Output",
    "PSPNet",
    "PSPNetConfig",
    "RetinaUNetConfig",
    "SegResNetConfig",
    "SegmentationNetwork",
    "SwinUNETRConfig",
    "UNETRConfig",
    "UNet",
    "UNetConfig",
    "UNetPlusPlus",
    "UNetPlusPlusConfig",
    "UNetValid",
    "UNetValidConfig",
    "VNetConfig",
    "as_output",
    "logits_of",
    "parameter_count",
]
