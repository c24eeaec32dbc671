"""Mask R-CNN in 2D and 3D (He et al. 2017, arXiv:1703.06870)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal, Self

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import nn

from medseg.errors import ConfigError
from medseg.models.backbones import BackboneConfig, ResNetConfig
from medseg.models.detection.anchors import DETECTIONS, AnchoredConfig, grid_anchors, plan_detections
from medseg.models.detection.boxes import volumes
from medseg.models.detection.detections import Detections, Detector, Pasting
from medseg.models.detection.heads import BoxHead, BoxHeadOptions, MaskHead, MaskHeadOptions
from medseg.models.detection.pyramid import FeaturePyramid, LayerOptions
from medseg.models.detection.roi_align import Regions, RoIAlign
from medseg.models.detection.rpn import RPN, RPNOptions
from medseg.models.detection.targets import DetectionTargets
from medseg.models.layers.norms import BatchNorm
from medseg.models.layers.padding import resize_linear
from medseg.task import Task

Losses = dict[str, torch.Tensor]


class MaskRCNNConfig(AnchoredConfig):
    """Mask R-CNN on a feature pyramid.

    torchvision's ``maskrcnn_resnet50_fpn`` has ``aligned=False, pasting="rounded", shorter_side=800``.

    Attributes:
        backbone: settings of the backbone.
        feature_maps: number of the backbone's coarsest feature maps that the pyramid is built on.
        pyramid: channels and norm of the pyramid.
        extra_level: whether the RPN gets one more level, of twice the coarsest stride.
        anchors: sizes and shapes of the anchors; one more level than ``feature_maps`` with ``extra_level``.
        rpn: the region proposal network.
        box_head: classes and boxes.
        mask_head: masks.
        level_size: regions of twice this size are pooled from the second level, of 4 times from the third …;
            by default 1.75 times the size of the smallest anchors (56 for 32, as in the paper).
        shorter_side: images are resized so that their shorter side has this length; None: not resized.
        longer_side: a resized image's longer side is at most this.
        aligned: see ``RoIAlign``.
        pasting: how masks are drawn into the image.
        norm_eps: added to the variances of the backbone's batch norms; 0 for torchvision's first weights.
    """

    paper: ClassVar[str] = "He et al. 2017, arXiv:1703.06870"

    name: Literal["maskrcnn"] = "maskrcnn"
    backbone: BackboneConfig = ResNetConfig()
    feature_maps: PositiveInt = 4
    pyramid: LayerOptions = LayerOptions()
    extra_level: bool = True
    rpn: RPNOptions = RPNOptions()
    box_head: BoxHeadOptions = BoxHeadOptions()
    mask_head: MaskHeadOptions = MaskHeadOptions()
    level_size: PositiveFloat | None = None
    shorter_side: PositiveInt | None = None
    longer_side: PositiveInt = 1333
    aligned: bool = True
    pasting: Pasting = "exact"
    norm_eps: float = 1e-5

    @property
    def levels(self) -> int:
        """Number of levels of the anchors."""
        return self.feature_maps + self.extra_level

    def with_detections(self, most: int) -> Self:
        detections = self.box_head.detections or plan_detections(most)
        return self.model_copy(update={"box_head": self.box_head.model_copy(update={"detections": detections})})

    def build(self, task: Task) -> MaskRCNN:
        """Build the network. Raises: ConfigError as the backbone's ``build``, or if anchors do not fit."""
        return MaskRCNN(self, task)


class MaskRCNN(Detector):
    """Mask R-CNN; see ``MaskRCNNConfig`` and ``Detector``.

    Example:
        >>> network = MaskRCNNConfig(backbone=ResNetConfig(depth=18)).build(Task(2, 1, 2)).eval()
        >>> [found] = network(torch.zeros(1, 1, 64, 64))
        >>> found.boxes.shape[1]
        4
    """

    def __init__(self, config: MaskRCNNConfig, task: Task) -> None:
        super().__init__()
        dims, channels = task.spatial_dims, config.pyramid.channels
        self.config, self.spatial_dims, self.in_channels = config, dims, task.in_channels
        self.most_detections = config.box_head.detections or DETECTIONS
        self.shapes = config.anchors.resolve(config.levels, dims)
        self.backbone = config.backbone.build(dims, task.in_channels)
        available = len(self.backbone.channels)
        if config.feature_maps > available:
            raise ConfigError(f"model.feature_maps is {config.feature_maps}; the backbone has {available}")
        self.strides = self.backbone.strides[-config.feature_maps :]
        inputs = self.backbone.channels[-config.feature_maps :]
        self.pyramid = FeaturePyramid(inputs, config.pyramid, dims, extra=config.extra_level)
        self.rpn = RPN(channels, len(self.shapes[0]), config.rpn, dims)
        self.box_head = BoxHead(channels, task.num_classes, config.box_head, dims)
        self.mask_head = MaskHead(channels, task.num_classes, config.mask_head, dims)
        self.box_pool = RoIAlign((config.box_head.size,) * dims, aligned=config.aligned)
        self.mask_pool = RoIAlign((config.mask_head.size,) * dims, aligned=config.aligned)
        self.mask_target = RoIAlign((2 * config.mask_head.size,) * dims, aligned=True)
        smallest = min(math.prod(one) ** (1 / dims) for one in self.shapes[0])
        self.level_size = config.level_size or 1.75 * smallest
        for module in self.backbone.modules():
            if isinstance(module, BatchNorm):
                module.eps = config.norm_eps

    def resize(self, images: torch.Tensor) -> torch.Tensor:
        """Resize images (B, C, *S) to the size at which the network looks at them."""
        if self.config.shorter_side is None:
            return images
        size = images.shape[2:]
        factor = min(self.config.shorter_side / min(size), self.config.longer_side / max(size))
        return resize_linear(images, [int(length * factor) for length in size])

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the pyramid of images (B, C, *S), which are padded with zeros to multiples of the strides."""
        missing = [-length % step for length, step in zip(images.shape[2:], self.strides[-1], strict=True)]
        padding = [width for after in reversed(missing) for width in (0, after)]
        return self.pyramid(self.backbone(nn.functional.pad(images, padding))[-self.config.feature_maps :])

    def anchors(self, features: Sequence[torch.Tensor], size: Sequence[int]) -> list[torch.Tensor]:
        """Return the anchors of each level for images of ``size``."""
        padded = [length + -length % step for length, step in zip(size, self.strides[-1], strict=True)]
        return grid_anchors(self.shapes, padded, features, rounded=self.config.anchors.shapes is None)

    def detect(self, images: torch.Tensor) -> list[Detections]:
        original = tuple(images.shape[2:])
        images = self.resize(images)
        size = tuple(images.shape[2:])
        features = self.features(images)
        proposals = self.rpn.propose(self.rpn(features, self.anchors(features, size)), size)
        logits, codes = self.box_head(self.pool(self.box_pool, features, proposals))
        counts = [len(boxes) for boxes in proposals]
        decided = [
            self.box_head.decide(one, code, boxes, size)
            for one, code, boxes in zip(logits.split(counts), codes.split(counts), proposals, strict=True)
        ]
        boxes, kinds = [one[0] for one in decided], torch.cat([one[1] for one in decided])
        masks = self.masks(self.pool(self.mask_pool, features, boxes), kinds)
        parts = masks.split([len(one) for one in boxes])
        return [
            Detections(*found, mask, size, self.config.pasting).resized(original)
            for found, mask in zip(decided, parts, strict=True)
        ]

    def masks(self, pooled: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Return the masks (N, *M) of the classes (N,): probabilities. Regions go through 64 at a time."""
        parts = [torch.zeros((0, *(2 * self.config.mask_head.size,) * self.spatial_dims), device=pooled.device)]
        for features, kinds in zip(pooled.split(64), classes.split(64), strict=True):
            logits = self.mask_head(features)
            parts.append(logits[torch.arange(len(kinds), device=kinds.device), kinds].float().sigmoid())
        return torch.cat(parts)

    def pool(
        self, pooling: RoIAlign, features: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """Pool the features of the boxes of each image: (N, C, *size), image by image."""
        flat = torch.cat(list(boxes))
        images = torch.arange(len(boxes), device=flat.device)
        images = images.repeat_interleave(torch.tensor([len(one) for one in boxes], device=flat.device))
        maps = [level.float() for level in features[: self.config.feature_maps]]
        return pooling.pool(maps, self.strides, Regions(flat, images, self.level_of(flat)))

    def level_of(self, boxes: torch.Tensor) -> torch.Tensor:
        """Return the level that each box (N, 2·D) is pooled from (Lin et al. 2017, arXiv:1612.03144, eq. 1)."""
        size = volumes(boxes) ** (1 / self.spatial_dims)
        level = torch.floor(torch.log2(size / self.level_size) + 1e-6)
        return level.clamp(0, self.config.feature_maps - 1).long()

    def losses(self, images: torch.Tensor, targets: Sequence[DetectionTargets]) -> Losses:
        size = tuple(images.shape[2:])
        features = self.features(images)
        predicted = self.rpn(features, self.anchors(features, size))
        losses = self.rpn.losses(predicted, targets)
        proposals = self.rpn.propose(predicted, size)
        boxes, matched, classes, codes = [], [], [], []
        for proposed, target in zip(proposals, targets, strict=True):
            regions, objects, sample = self.box_head.sample(proposed, target)
            boxes.append(regions)
            matched.append(objects)
            codes.append(self.box_head.coder.encode(target.boxes[objects], regions[: len(objects)]))
            background = torch.zeros_like(sample.negative)
            classes.append(torch.cat([target.classes[objects], background]))
        logits, predicted_codes = self.box_head(self.pool(self.box_pool, features, boxes))
        losses |= self.box_head.losses(logits, predicted_codes, torch.cat(classes), torch.cat(codes))
        positive = [one[: len(objects)] for one, objects in zip(boxes, matched, strict=True)]
        losses["mask"] = self._mask_loss(features, positive, matched, targets)
        return losses

    def _mask_loss(
        self,
        features: Sequence[torch.Tensor],
        boxes: Sequence[torch.Tensor],
        matched: Sequence[torch.Tensor],
        targets: Sequence[DetectionTargets],
    ) -> torch.Tensor:
        """Return the loss of the masks of positive boxes, whose objects are ``matched``."""
        logits = self.mask_head(self.pool(self.mask_pool, features, boxes))
        kinds = [target.classes[objects] for target, objects in zip(targets, matched, strict=True)]
        masks = [
            self.mask_target.pool_ids(target.label_maps, Regions(one, target.layers[objects], objects), ids)
            for one, objects, target in zip(boxes, matched, targets, strict=True)
            for ids in [target.ids[objects]]
        ]
        return self.mask_head.loss(logits, torch.cat(kinds), torch.cat(masks))
