"""Files of published weights: names, addresses and where downloads are stored; imported without torch.

Addresses and hashes are torchvision's (BSD-3-Clause; https://pytorch.org/vision/stable/models.html). What the
files hold is in ``medseg.models.pretrained.weight_registry``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_BASE = "https://download.pytorch.org/models/"
CACHE = Path("~/.cache/medseg/weights")
"""Default folder of downloaded weights."""


@dataclass(frozen=True)
class WeightFile:
    """A file of published weights.

    Attributes:
        file: name of the file, which contains the first digits of its SHA-256.
        about: the data they were trained on.
        kind: whether it holds a whole network, or a backbone trained on ImageNet.
    """

    file: str
    about: str
    kind: Literal["network", "backbone"] = "network"

    @property
    def url(self) -> str:
        """Public address of the file."""
        return _BASE + self.file

    def path(self, cache: Path | None = None) -> Path:
        """Return the path of the downloaded file; ``cache`` defaults to ``CACHE``."""
        return (cache or CACHE).expanduser() / self.file


_VOC = "COCO's pictures, Pascal VOC's 21 classes"
_COCO = "COCO's pictures, 80 kinds of objects under 91 category ids"
_NETWORKS = {
    "fcn_resnet50_voc": WeightFile("fcn_resnet50_coco-1167a1af.pth", _VOC),
    "fcn_resnet101_voc": WeightFile("fcn_resnet101_coco-7ecb50ca.pth", _VOC),
    "deeplabv3_resnet50_voc": WeightFile("deeplabv3_resnet50_coco-cd0a2569.pth", _VOC),
    "deeplabv3_resnet101_voc": WeightFile("deeplabv3_resnet101_coco-586e9e4e.pth", _VOC),
    "deeplabv3_mobilenet_voc": WeightFile("deeplabv3_mobilenet_v3_large-fc3c493d.pth", _VOC),
    "lraspp_mobilenet_voc": WeightFile("lraspp_mobilenet_v3_large-d234d4ea.pth", _VOC),
    "maskrcnn_resnet50_fpn_coco": WeightFile("maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth", _COCO),
    "maskrcnn_resnet50_fpn_v2_coco": WeightFile("maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth", _COCO),
}
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

WEIGHT_FILES: dict[str, WeightFile] = _NETWORKS | {
    name: WeightFile(file, "ImageNet, 1000 classes", "backbone") for name, file in _BACKBONES.items()
}
