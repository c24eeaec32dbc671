"""Heads of Mask R-CNN: classes and boxes of regions, and their masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import nn

from medseg.models.detection.anchors import DETECTIONS
from medseg.models.detection.boxes import BoxCoder, box_iou, clip_boxes, has_sides
from medseg.models.detection.matching import Sample, match_by_iou, sample_balanced
from medseg.models.detection.nms import nms
from medseg.models.detection.pyramid import LayerOptions
from medseg.models.detection.rpn import SMOOTH_L1, leave_out_ignored
from medseg.models.detection.targets import DetectionTargets
from medseg.models.layers.factory import set_stride_and_dilation


class BoxHeadOptions(LayerOptions):
    """Settings of the head that classifies regions and refines their boxes.

    Inherited attributes: see ``LayerOptions``; the channels are those of the hidden vector.

    Attributes:
        size: bins of the pooled features along each axis.
        convs: number of 3×3 convolutions, of ``conv_channels``, before the hidden vector.
        conv_channels: of the convolutions; None: those of the pyramid.
        reduce: how pooled features become a vector: ``flatten`` (two linear layers, or one after
            convolutions), or ``convolve`` (a strided convolution and the mean over the rest), which needs few
            weights in 3D; by default the first in 2D and the second in 3D.
        samples: regions of an image that the loss uses.
        positive_share: most of them that may be objects.
        positive_iou: IoU from which a region is an object; below it is background.
        score: least score of a detection.
        nms_iou: IoU above which the weaker of two detections of a class is dropped.
        detections: most detections of an image; by default three times as many as the objects of an image of
            the training, and at least 100.
    """

    channels: int = 1024
    size: PositiveInt = 7
    convs: int = Field(default=0, ge=0)
    conv_channels: PositiveInt | None = None
    reduce: Literal["flatten", "convolve"] | None = None
    samples: PositiveInt = 512
    positive_share: float = Field(default=0.25, gt=0, le=1)
    positive_iou: float = Field(default=0.5, gt=0, le=1)
    score: float = Field(default=0.05, ge=0, le=1)
    nms_iou: float = Field(default=0.5, gt=0, le=1)
    detections: PositiveInt | None = None


class BoxHead(nn.Module):
    """Class and box of each region (Girshick 2015, arXiv:1504.08083).

    Shapes: pooled features (N, C, *size) to logits (N, K) and codes (N, K·2·D).

    Args:
        inputs: channels of the pyramid.
        num_classes: K, background included.
        options: its settings.
        spatial_dims: 2 or 3.
    """

    def __init__(self, inputs: int, num_classes: int, options: BoxHeadOptions, spatial_dims: int) -> None:
        super().__init__()
        self.options = options
        self.coder = BoxCoder(10.0, 5.0)
        reduce = options.reduce or ("flatten" if spatial_dims == 2 else "convolve")
        own = options.model_copy(update={"channels": options.conv_channels or inputs})
        layers = own.layers(spatial_dims)
        self.convs = nn.Sequential(
            *(own.conv(layers, own.channels if index else inputs, 3) for index in range(options.convs))
        )
        width = own.channels if options.convs else inputs
        self.pool: nn.Module = nn.Flatten()
        if reduce == "convolve":
            strided = own.conv(layers, width, 3)
            set_stride_and_dilation(strided[0], (2,) * spatial_dims, (1,) * spatial_dims)
            self.pool = nn.Sequential(strided, layers.average_to(1), nn.Flatten())
            width = own.channels
        else:
            width *= options.size**spatial_dims
        self.fc6 = nn.Linear(width, options.channels)
        single = options.convs or reduce == "convolve"
        self.fc7 = None if single else nn.Linear(options.channels, options.channels)
        self.classes = nn.Linear(options.channels, num_classes)
        self.codes = nn.Linear(options.channels, num_classes * 2 * spatial_dims)
        for module in self.convs.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pooled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = F.relu(self.fc6(self.pool(self.convs(pooled))))
        if self.fc7 is not None:
            hidden = F.relu(self.fc7(hidden))
        return self.classes(hidden).float(), self.codes(hidden).float()

    @torch.no_grad()
    def sample(
        self, proposals: torch.Tensor, target: DetectionTargets
    ) -> tuple[torch.Tensor, torch.Tensor, Sample]:
        """Draw the regions of one image that the losses use.

        Args:
            proposals: (N, 2·D).
            target: the objects; their boxes are proposals as well.

        Returns:
            Boxes (M, 2·D), positive ones first; the index of the object of each positive one; and the sample.
        """
        options = self.options
        boxes = torch.cat([proposals, target.boxes])
        iou = box_iou(target.boxes, boxes)
        matches = match_by_iou(iou, options.positive_iou, options.positive_iou)
        leave_out_ignored(matches, boxes, target)
        sample = sample_balanced(matches, options.samples, options.positive_share)
        return boxes[sample.all], matches[sample.positive], sample

    def losses(
        self, logits: torch.Tensor, codes: torch.Tensor, classes: torch.Tensor, wanted: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return the losses of classes (mean cross-entropy) and boxes (smooth L1 by regions).

        Args:
            logits: (N, K).
            codes: (N, K·2·D).
            classes: (N,) true class of each region, 0 for background.
            wanted: (P, 2·D) true codes of the regions that are objects.
        """
        count = max(1, len(classes))
        positive = (classes > 0).nonzero()[:, 0]
        own = codes.view(*logits.shape, wanted.shape[1])[positive, classes[positive]]
        box = F.smooth_l1_loss(own, wanted, beta=SMOOTH_L1, reduction="sum") / count
        return {"class": F.cross_entropy(logits, classes, reduction="sum") / count, "box": box}

    def decide(
        self, logits: torch.Tensor, codes: torch.Tensor, proposals: torch.Tensor, size: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return boxes, classes and scores of the detections of one image of ``size``, best first."""
        options, classes = self.options, logits.shape[1]
        dims2 = proposals.shape[1]
        boxes = self.coder.decode(codes.view(-1, classes, dims2), proposals[:, None])
        boxes = clip_boxes(boxes, size)[:, 1:].reshape(-1, dims2)
        scores = logits.softmax(dim=1)[:, 1:].reshape(-1)
        kinds = torch.arange(1, classes, device=logits.device).repeat(len(logits))
        valid = (scores > options.score) & has_sides(boxes, 1e-2)
        boxes, scores, kinds = boxes[valid], scores[valid], kinds[valid]
        kept = nms(boxes, scores, options.nms_iou, groups=kinds, limit=options.detections or DETECTIONS)
        return boxes[kept], kinds[kept], scores[kept]


class MaskHeadOptions(LayerOptions):
    """Settings of the head that predicts masks.

    Inherited attributes: see ``LayerOptions``.

    Attributes:
        size: bins of the pooled features along each axis; masks have twice as many.
        convs: number of 3×3 convolutions.
    """

    size: PositiveInt = 14
    convs: PositiveInt = 4


class MaskHead(nn.Module):
    """Mask of each region and class (He et al. 2017, arXiv:1703.06870, figure 4, right).

    Shapes: pooled features (N, C, *size) to logits (N, K, *2·size).

    Args:
        inputs: channels of the pyramid.
        num_classes: K, background included.
        options: its settings.
        spatial_dims: 2 or 3.
    """

    def __init__(self, inputs: int, num_classes: int, options: MaskHeadOptions, spatial_dims: int) -> None:
        super().__init__()
        self.options, self.num_classes = options, num_classes
        layers = options.layers(spatial_dims)
        self.convs = nn.Sequential(
            *(options.conv(layers, options.channels if i else inputs, 3) for i in range(options.convs))
        )
        self.upsample = layers.transposed_conv(options.channels, options.channels, 2)
        self.logits = layers.pointwise(options.channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        if not len(pooled):
            shape = (0, self.num_classes, *(2 * self.options.size,) * (pooled.ndim - 2))
            zero = torch.stack([parameter.sum() for parameter in self.parameters()]).sum() * 0
            return pooled.new_zeros(shape) + pooled.sum() * 0 + zero
        return self.logits(F.relu(self.upsample(self.convs(pooled))))

    def loss(self, logits: torch.Tensor, classes: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Return the mean cross-entropy of the masks of the true classes.

        Args:
            logits: (N, K, *M).
            classes: (N,) true classes.
            masks: (N, *M), 0 to 1.
        """
        own = logits[torch.arange(len(classes), device=classes.device), classes].float()
        total = F.binary_cross_entropy_with_logits(own, masks, reduction="sum")
        return total / max(1, math.prod(masks.shape)) + logits.sum() * 0
