"""Registry of published weights: address, key table and network of each.

Addresses and hashes are torchvision's (BSD-3-Clause; https://pytorch.org/vision/stable/models.html).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
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

_BASE = "https://download.pytorch.org/models/"
CACHE = Path("~/.cache/medseg/weights")
"""Default folder of downloaded weights."""


@dataclass(frozen=True)
class PublishedWeights:
    """Published weights.

    Attributes:
        file: name of the file, which contains the first digits of its SHA-256.
        keys: name of the key table (``medseg.models.pretrained.key_mapping.KEY_TABLES``).
        about: the data they were trained on.
        network: the network they belong to; None for a backbone trained on ImageNet.
        labels: name of the table of the classes (``medseg.data.labels.names.tables``).
    """

    file: str
    keys: str
    about: str
    network: AnyModelConfig | None = None
    labels: Literal["voc", "coco"] = "voc"

    @property
    def url(self) -> str:
        """Public address of the file."""
        return _BASE + self.file

    def path(self, cache: Path | None = None) -> Path:
        """Return the path of the downloaded file; ``cache`` defaults to ``CACHE``."""
        return (cache or CACHE).expanduser() / self.file


_VOC = "COCO's pictures, Pascal VOC's 21 classes"
_SEGMENTATION, _MOBILE = "torchvision_segmentation", "torchvision_segmentation_mobilenet"
_COCO = "COCO's pictures, 80 kinds of objects under 91 category ids"
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
_NETWORKS = {
    "fcn_resnet50_voc": PublishedWeights(
        "fcn_resnet50_coco-1167a1af.pth", _SEGMENTATION, _VOC, FCNConfig(backbone=ResNetConfig(depth=50))
    ),
    "fcn_resnet101_voc": PublishedWeights(
        "fcn_resnet101_coco-7ecb50ca.pth", _SEGMENTATION, _VOC, FCNConfig(backbone=ResNetConfig(depth=101))
    ),
    "deeplabv3_resnet50_voc": PublishedWeights(
        "deeplabv3_resnet50_coco-cd0a2569.pth", _SEGMENTATION, _VOC,
        DeepLabV3Config(output_stride=8, auxiliary=True),
    ),
    "deeplabv3_resnet101_voc": PublishedWeights(
        "deeplabv3_resnet101_coco-586e9e4e.pth", _SEGMENTATION, _VOC,
        DeepLabV3Config(backbone=ResNetConfig(depth=101), output_stride=8, auxiliary=True),
    ),
    "deeplabv3_mobilenet_voc": PublishedWeights(
        "deeplabv3_mobilenet_v3_large-fc3c493d.pth", _MOBILE, _VOC,
        DeepLabV3Config(
            backbone=MobileNetV3Config(tap="first"), rates=(12, 24, 36), auxiliary=True, auxiliary_level=-3
        ),
    ),
    "lraspp_mobilenet_voc": PublishedWeights(
        "lraspp_mobilenet_v3_large-d234d4ea.pth", _MOBILE, _VOC, LRASPPConfig()
    ),
    "maskrcnn_resnet50_fpn_coco": PublishedWeights(
        "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth", "torchvision_maskrcnn", _COCO, _MASK_RCNN, "coco"
    ),
    "maskrcnn_resnet50_fpn_v2_coco": PublishedWeights(
        "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth", "torchvision_maskrcnn", _COCO, _MASK_RCNN_V2, "coco"
    ),
}  # fmt: skip
_BACKBONES = {
    "resnet18_imagenet": "resnet18-f37072fd.pth",
    "resnet34_imagenet": "resnet34-b627a593.pth",
    "resnet50_imagenet": "resnet50-0676ba61.pth",
    "resnet101_imagenet": "resnet101-63fe2227.pth",
    "resnet152_imagenet": "resnet152-394f9c45.pth",
    "resnext50_imagenet": "resnext50_32x4d-7cdf4587.pth",
    "resnext101_imagenet": "resnext101_32x8d-8ba56ff5.pth",
    "wide_resnet50_imagenet": "wide_resnet50_2-95faca4d.pth",
    "wide_resnet101_imagenet": "wide_resnet101_2-32ee1156.pth",
    "vgg16_imagenet": "vgg16-397923af.pth",
    "vgg16_bn_imagenet": "vgg16_bn-6c64b313.pth",
    "mobilenet_v3_large_imagenet": "mobilenet_v3_large-8738ca79.pth",
}


def _table(file: str) -> str:
    kinds = {"vgg": "torchvision_vgg", "mobilenet": "torchvision_mobilenet"}
    return next((table for word, table in kinds.items() if file.startswith(word)), "torchvision_resnet")


PUBLISHED_WEIGHTS: dict[str, PublishedWeights] = _NETWORKS | {
    name: PublishedWeights(file, _table(file), "ImageNet, 1000 classes") for name, file in _BACKBONES.items()
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
