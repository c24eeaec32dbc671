"""Registry of published weights: key table and network of each of ``medseg.system.weight_files``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from medseg.errors import ConfigError
from medseg.models import AnyModelConfig
from medseg.models.backbones import MobileNetV3Config, ResNetConfig
from medseg.models.deeplab import DeepLabV3Config
from medseg.models.detection.anchors import AnchorOptions
from medseg.models.detection.heads import BoxHeadOptions, MaskHeadOptions
from medseg.models.detection.mask_rcnn import MaskRCNNConfig
from medseg.models.detection.pyramid import LayerOptions
from medseg.models.detection.rpn import RPNOptions
from medseg.models.fcn import FCNConfig
from medseg.models.lraspp import LRASPPConfig
from medseg.system.weight_files import WEIGHT_FILES, WeightFile


@dataclass(frozen=True, kw_only=True)
class PublishedWeights(WeightFile):
    """Published weights.

    Attributes:
        keys: name of the key table (``medseg.models.pretrained.key_mapping.KEY_TABLES``).
        network: the network they belong to; None for a backbone trained on ImageNet.
        labels: name of the table of the classes (``medseg.data.labels.names.tables``).
    """

    keys: str
    network: AnyModelConfig | None = None
    labels: Literal["voc", "coco"] = "voc"


_MASK_RCNN = MaskRCNNConfig(
    anchors=AnchorOptions(), level_size=56, aligned=False, pasting="rounded", shorter_side=800, norm_eps=0
)
_MASK_RCNN_V2 = _MASK_RCNN.model_copy(
    update={
        "pyramid": LayerOptions(norm="batch"),
        "rpn": RPNOptions(convs=2),
        "box_head": BoxHeadOptions(norm="batch", convs=4),
        "mask_head": MaskHeadOptions(norm="batch"),
        "norm_eps": 1e-5,
    }
)
_NETWORKS: dict[str, AnyModelConfig] = {
    "fcn_resnet50_voc": FCNConfig(backbone=ResNetConfig(depth=50)),
    "fcn_resnet101_voc": FCNConfig(backbone=ResNetConfig(depth=101)),
    "deeplabv3_resnet50_voc": DeepLabV3Config(output_stride=8, auxiliary=True),
    "deeplabv3_resnet101_voc": DeepLabV3Config(
        backbone=ResNetConfig(depth=101), output_stride=8, auxiliary=True
    ),
    "deeplabv3_mobilenet_voc": DeepLabV3Config(
        backbone=MobileNetV3Config(tap="first"), rates=(12, 24, 36), auxiliary=True, auxiliary_level=-3
    ),
    "lraspp_mobilenet_voc": LRASPPConfig(),
    "maskrcnn_resnet50_fpn_coco": _MASK_RCNN,
    "maskrcnn_resnet50_fpn_v2_coco": _MASK_RCNN_V2,
}
_TABLES = {
    "maskrcnn": "torchvision_maskrcnn", "deeplabv3_mobilenet": "torchvision_segmentation_mobilenet",
    "lraspp": "torchvision_segmentation_mobilenet", "deeplabv3": "torchvision_segmentation",
    "fcn": "torchvision_segmentation", "vgg": "torchvision_vgg", "mobilenet": "torchvision_mobilenet",
}  # fmt: skip
"""Start of a name → key table; others have that of a ResNet."""


def _published(name: str, source: WeightFile) -> PublishedWeights:
    keys = next((table for start, table in _TABLES.items() if name.startswith(start)), "torchvision_resnet")
    network = None if source.kind == "backbone" else _NETWORKS[name]
    return PublishedWeights(
        **vars(source), keys=keys, network=network, labels="coco" if name.endswith("_coco") else "voc"
    )


PUBLISHED_WEIGHTS: dict[str, PublishedWeights] = {
    name: _published(name, source) for name, source in WEIGHT_FILES.items()
}


def lookup_weights(name: str) -> PublishedWeights:
    """Return published weights by name.

    Raises:
        ConfigError: if there are none of that name; the message lists the names.

    Example:
        >>> lookup_weights("resnet18_imagenet").file
        'resnet18-f37072fd.pth'
    """
    if name not in PUBLISHED_WEIGHTS:
        raise ConfigError(
            f"there are no published weights named {name!r}; available: {', '.join(PUBLISHED_WEIGHTS)}"
        )
    return PUBLISHED_WEIGHTS[name]
