"""Retina U-Net in 2D and 3D: dense detection with a segmentation head (Jaeger et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt
from torch import nn

from medseg.errors import ConfigError
from medseg.models.backbones import BackboneConfig, ResNetConfig
from medseg.models.detection.anchors import (
    DETECTIONS,
    AnchoredConfig,
    AnchorOptions,
    grid_anchors,
    plan_detections,
)
from medseg.models.detection.boxes import BoxCoder, box_iou, clip_boxes, has_sides, paired_generalized_iou
from medseg.models.detection.detections import Detections, Detector
from medseg.models.detection.matching import match_adaptively, sample_hard
from medseg.models.detection.nms import nms
from medseg.models.detection.pyramid import FeaturePyramid, LayerOptions
from medseg.models.detection.roi_align import Regions, RoIAlign
from medseg.models.detection.rpn import flatten_levels, leave_out_ignored
from medseg.models.detection.targets import DetectionTargets
from medseg.models.layers.padding import pad_end, resize_linear
from medseg.task import Task

Losses = dict[str, torch.Tensor]

_PRIOR = 0.01
"""Probability of an object that an untrained network predicts (Lin et al. 2017, arXiv:1708.02002)."""


class RetinaUNetConfig(AnchoredConfig):
    """Retina U-Net: a feature pyramid with dense class and box heads, and a segmentation of the whole image.

    Anchors are matched by ATSS; the loss is cross-entropy on hard samples, generalized IoU, and cross-entropy
    and Dice of the segmentation, as in nnDetection (Baumgartner et al. 2021, arXiv:2106.00817).

    Attributes:
        backbone: settings of the backbone; the pyramid has all its feature maps.
        feature_maps: number of the coarsest maps of the pyramid in which objects are detected.
        pyramid: channels and norm of the pyramid and the heads.
        convs: number of 3×3 convolutions of the class head and of the box head.
        anchors: sizes and shapes of the anchors, ``feature_maps`` levels.
        samples: anchors of an image that the loss of the classes uses.
        positive_share: most of them that may be objects.
        score: least score of a detection.
        nms_iou: IoU above which the weaker of two detections of a class is dropped.
        candidates: anchors of each level that compete.
        detections: most detections of an image; by default three times as many as the objects of an image of
            the training, and at least 100.
        mask_size: cells of an object's mask along each axis of its box.
        segmentation_weight: weight of the loss of the segmentation.
    """

    paper: ClassVar[str] = "Jaeger et al. 2020, arXiv:1811.08661"

    name: Literal["retina_unet"] = "retina_unet"
    backbone: BackboneConfig = ResNetConfig(norm="group")
    feature_maps: PositiveInt = 4
    pyramid: LayerOptions = LayerOptions(channels=128, norm="group")
    convs: PositiveInt = 2
    anchors: AnchorOptions = AnchorOptions(shapes="auto", sizes=(8, 16, 32, 64))
    samples: PositiveInt = 32
    positive_share: float = Field(default=0.33, gt=0, le=1)
    score: float = Field(default=0.05, ge=0, le=1)
    nms_iou: float = Field(default=0.4, gt=0, le=1)
    candidates: PositiveInt = 1000
    detections: PositiveInt | None = None
    mask_size: PositiveInt = 28
    segmentation_weight: PositiveFloat = 1.0

    @property
    def levels(self) -> int:
        """Number of levels of the anchors."""
        return self.feature_maps

    def with_detections(self, most: int) -> Self:
        detections = self.detections or plan_detections(most)
        return self.model_copy(update={"detections": detections})

    def build(self, task: Task) -> RetinaUNet:
        """Build the network. Raises: ConfigError as the backbone's ``build``, or if anchors do not fit."""
        return RetinaUNet(self, task)


class RetinaUNet(Detector):
    """Retina U-Net; see ``RetinaUNetConfig`` and ``Detector``.

    The mask of an object is the segmentation of its class within its box.
    """

    def __init__(self, config: RetinaUNetConfig, task: Task) -> None:
        super().__init__()
        dims = task.spatial_dims
        self.config, self.spatial_dims, self.num_classes = config, dims, task.num_classes
        self.in_channels = task.in_channels
        self.most_detections = config.detections or DETECTIONS
        self.coder = BoxCoder()
        self.shapes = config.anchors.resolve(config.feature_maps, dims)
        self.backbone = config.backbone.build(dims, task.in_channels)
        if config.feature_maps > len(self.backbone.channels):
            raise ConfigError(
                f"model.feature_maps is {config.feature_maps}; the backbone has {len(self.backbone.channels)}"
            )
        self.pyramid = FeaturePyramid(self.backbone.channels, config.pyramid, dims, extra=False)
        layers, channels, anchors = config.pyramid.layers(dims), config.pyramid.channels, len(self.shapes[0])
        self.class_head = nn.Sequential(
            *(config.pyramid.conv(layers, channels, 3) for _ in range(config.convs))
        )
        self.box_head = nn.Sequential(*(config.pyramid.conv(layers, channels, 3) for _ in range(config.convs)))
        self.classes = layers.conv(channels, anchors * (task.num_classes - 1), 3, bias=True)
        self.codes = layers.conv(channels, anchors * 2 * dims, 3, bias=True)
        self.segmentation = nn.Sequential(
            config.pyramid.conv(layers, channels, 3), layers.pointwise(channels, task.num_classes)
        )
        self.mask_pool = RoIAlign((config.mask_size,) * dims, samples=1, aligned=True)
        self._initialize()

    def _initialize(self) -> None:
        for layer in (self.classes, self.codes):
            assert isinstance(layer, nn.Conv2d | nn.Conv3d)
            assert layer.bias is not None
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
        nn.init.constant_(self.classes.bias, -math.log((1 - _PRIOR) / _PRIOR))  # type: ignore[arg-type]

    def predict(
        self, images: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor], torch.Tensor]:
        """Return logits (B, N, K - 1), codes (B, N, 2·D), the anchors of each level, and the segmentation.

        The segmentation's logits are (B, K, *S).
        """
        size = tuple(images.shape[2:])
        step = self.backbone.strides[-1]
        padded = [length + -length % unit for length, unit in zip(size, step, strict=True)]
        pyramid = self.pyramid(self.backbone(pad_end(images, padded)))
        levels = pyramid[-self.config.feature_maps :]
        anchors = grid_anchors(self.shapes, padded, levels, rounded=False)
        logits = [flatten_levels(self.classes(self.class_head(x)), self.num_classes - 1) for x in levels]
        codes = [flatten_levels(self.codes(self.box_head(x)), 2 * self.spatial_dims) for x in levels]
        whole = resize_linear(self.segmentation(pyramid[0]), padded)
        whole = whole[(..., *(slice(length) for length in size))]
        return torch.cat(logits, dim=1).float(), torch.cat(codes, dim=1).float(), anchors, whole.float()

    def detect(self, images: torch.Tensor) -> list[Detections]:
        logits, codes, anchors, whole = self.predict(images)
        probabilities = whole.softmax(dim=1)
        return [
            self._decide(scores, code, anchors, segmented)
            for scores, code, segmented in zip(logits.sigmoid(), codes, probabilities, strict=True)
        ]

    def _decide(
        self, scores: torch.Tensor, codes: torch.Tensor, levels: list[torch.Tensor], segmented: torch.Tensor
    ) -> Detections:
        """Decode one image from scores (N, K - 1), codes (N, 2·D) and probabilities (K, *S)."""
        size, kinds = tuple(segmented.shape[1:]), scores.shape[1]
        anchors, chosen, start = torch.cat(levels), [], 0
        for level in levels:
            flat = scores[start : start + len(level)].reshape(-1)
            best = flat.topk(min(len(flat), self.config.candidates)).indices
            chosen.append(best + start * kinds)
            start += len(level)
        index = torch.cat(chosen)
        row, kind, score = index // kinds, index % kinds + 1, scores.reshape(-1)[index]
        boxes = clip_boxes(self.coder.decode(codes[row], anchors[row]), size)
        valid = (score > self.config.score) & has_sides(boxes, 1e-2)
        boxes, kind, score = boxes[valid], kind[valid], score[valid]
        kept = nms(boxes, score, self.config.nms_iou, groups=kind, limit=self.most_detections)
        boxes, kind = boxes[kept], kind[kept]
        regions = Regions(boxes, torch.zeros_like(kind), torch.zeros_like(kind))
        masks = self.mask_pool.pool([segmented[None]], [(1,) * self.spatial_dims], regions)
        masks = masks[torch.arange(len(kind), device=kind.device), kind]
        return Detections(boxes, kind, score[kept], masks, size)

    def losses(self, images: torch.Tensor, targets: Sequence[DetectionTargets]) -> Losses:
        logits, codes, levels, whole = self.predict(images)
        anchors, counts = torch.cat(levels), [len(level) for level in levels]
        classes, overlaps = [], []
        for one, code, target in zip(logits, codes, targets, strict=True):
            with torch.no_grad():
                matches = self._match(anchors, counts, target)
                sample = sample_hard(
                    matches, one.detach().amax(dim=1), self.config.samples, self.config.positive_share
                )
            positive = sample.positive
            wanted = torch.zeros((len(sample.all), self.num_classes - 1), device=one.device)
            wanted[torch.arange(len(positive)), target.classes[matches[positive]] - 1] = 1
            entropy = F.binary_cross_entropy_with_logits(one[sample.all], wanted, reduction="sum")
            classes.append(entropy / max(1, wanted.numel()))  # none, if all of the image is ignored
            boxes = self.coder.decode(code[positive], anchors[positive])
            overlaps.append(1 - paired_generalized_iou(boxes, target.boxes[matches[positive]]))
        own = torch.cat(overlaps)
        box = own.sum() / max(1, len(own)) + codes.sum() * 0
        maps = torch.stack([target.class_map() for target in targets])
        losses = {"class": torch.stack(classes).mean(), "box": box}
        return losses | {"segmentation": self.config.segmentation_weight * _segmentation_loss(whole, maps)}

    def _match(self, anchors: torch.Tensor, counts: list[int], target: DetectionTargets) -> torch.Tensor:
        """Return the index of the object of each anchor."""
        dims = self.spatial_dims
        iou = box_iou(target.boxes, anchors)
        centers = (anchors[:, :dims] + anchors[:, dims:]) / 2
        lower, upper = target.boxes[:, None, :dims], target.boxes[:, None, dims:]
        distances = torch.cdist((lower[:, 0] + upper[:, 0]) / 2, centers)
        inside = ((centers > lower) & (centers < upper)).all(dim=2)
        matches = match_adaptively(iou, distances, inside, counts, 4 * len(self.shapes[0]))
        leave_out_ignored(matches, anchors, target)
        return matches


def _segmentation_loss(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Return cross-entropy plus soft Dice over the foreground classes of the batch; class -1 is ignored."""
    known = classes >= 0
    count = known.sum().clamp(min=1)
    entropy = F.cross_entropy(logits, classes, ignore_index=-1, reduction="sum") / count
    probabilities = logits.softmax(dim=1)[:, 1:] * known[:, None]
    truth = torch.stack([classes == kind for kind in range(1, logits.shape[1])], dim=1)
    axes = (0, *range(2, logits.ndim))
    shared = (probabilities * truth).sum(axes)
    dice = (2 * shared + 1) / (probabilities.sum(axes) + truth.sum(axes) + 1)
    return entropy + 1 - dice.mean()
