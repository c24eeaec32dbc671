"""Region proposal network (Ren et al. 2015, arXiv:1506.01497)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import nn

from medseg.config.base import Spec
from medseg.models.detection.boxes import BoxCoder, box_iou, clip_boxes, covered_share, has_sides
from medseg.models.detection.matching import BACKGROUND, BETWEEN, match_by_iou, sample_balanced
from medseg.models.detection.nms import nms
from medseg.models.detection.pyramid import LayerOptions
from medseg.models.detection.targets import DetectionTargets

SMOOTH_L1 = 1 / 9
"""Error of a box code below which its loss is quadratic (torchvision)."""


class RPNOptions(Spec):
    """Settings of the region proposal network.

    Attributes:
        convs: number of 3×3 convolutions before the two predictions.
        samples: anchors of an image that the loss uses.
        positive_share: most of them that may be positive.
        positive_iou: IoU from which an anchor is an object.
        negative_iou: IoU below which an anchor is background.
        candidates: anchors of each level that compete, in training and in evaluation.
        proposals: boxes of an image that are proposed, in training and in evaluation.
        nms_iou: IoU above which the weaker of two proposals of a level is dropped.
    """

    convs: PositiveInt = 1
    samples: PositiveInt = 256
    positive_share: float = Field(default=0.5, gt=0, le=1)
    positive_iou: float = Field(default=0.7, gt=0, le=1)
    negative_iou: float = Field(default=0.3, ge=0, le=1)
    candidates: tuple[PositiveInt, PositiveInt] = (2000, 1000)
    proposals: tuple[PositiveInt, PositiveInt] = (2000, 1000)
    nms_iou: float = Field(default=0.7, gt=0, le=1)


class Anchored(NamedTuple):
    """Predictions of an image batch for its anchors.

    Attributes:
        objectness: (B, N) logits.
        codes: (B, N, 2·D) of the boxes.
        anchors: (N, 2·D).
        counts: anchors of each level; they sum to N.
    """

    objectness: torch.Tensor
    codes: torch.Tensor
    anchors: torch.Tensor
    counts: list[int]


class RPN(nn.Module):
    """Region proposal network; its convolutions are shared by all levels.

    Args:
        channels: of the pyramid.
        anchors: number of anchors of a position.
        options: its settings.
        spatial_dims: 2 or 3.
    """

    def __init__(self, channels: int, anchors: int, options: RPNOptions, spatial_dims: int) -> None:
        super().__init__()
        self.options = options
        self.coder = BoxCoder()
        own = LayerOptions(channels=channels)
        layers = own.layers(spatial_dims)
        self.convs = nn.Sequential(*(own.conv(layers, channels, 3) for _ in range(options.convs)))
        self.objectness = layers.pointwise(channels, anchors)
        self.codes = layers.pointwise(channels, anchors * 2 * spatial_dims)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def predict(self, features: Sequence[torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return objectness (B, A, *S) and codes (B, A·2·D, *S) of each level."""
        hidden = [self.convs(level) for level in features]
        return [(self.objectness(x), self.codes(x)) for x in hidden]

    def forward(self, features: Sequence[torch.Tensor], anchors: Sequence[torch.Tensor]) -> Anchored:
        predicted = self.predict(features)
        return Anchored(
            torch.cat([flatten_levels(scores, 1)[..., 0] for scores, _ in predicted], dim=1).float(),
            torch.cat([flatten_levels(codes, anchors[0].shape[1]) for _, codes in predicted], dim=1).float(),
            torch.cat(list(anchors)),
            [len(level) for level in anchors],
        )

    @torch.no_grad()
    def propose(self, predicted: Anchored, size: Sequence[int]) -> list[torch.Tensor]:
        """Return the proposals of each image of ``size``: [(N, 2·D), …], by decreasing objectness."""
        phase = 0 if self.training else 1
        levels = torch.arange(len(predicted.counts), device=predicted.anchors.device)
        level_of = levels.repeat_interleave(torch.tensor(predicted.counts, device=levels.device))
        proposals: list[torch.Tensor] = []
        for scores, codes in zip(predicted.objectness, predicted.codes, strict=True):
            chosen = _best_of_levels(scores, predicted.counts, self.options.candidates[phase])
            boxes = clip_boxes(self.coder.decode(codes[chosen], predicted.anchors[chosen]), size)
            valid = has_sides(boxes, 1e-3)
            boxes, chosen = boxes[valid], chosen[valid]
            kept = nms(
                boxes, scores[chosen].sigmoid(), self.options.nms_iou, groups=level_of[chosen],
                limit=self.options.proposals[phase],
            )  # fmt: skip
            proposals.append(boxes[kept])
        return proposals

    def losses(self, predicted: Anchored, targets: Sequence[DetectionTargets]) -> dict[str, torch.Tensor]:
        """Return the losses: objectness (mean cross-entropy) and boxes (smooth L1 by sampled anchors)."""
        options, anchors = self.options, predicted.anchors
        scores, labels, codes, wanted = [], [], [], []
        for index, target in enumerate(targets):
            with torch.no_grad():
                iou = box_iou(target.boxes, anchors)
                matches = match_by_iou(iou, options.positive_iou, options.negative_iou, keep_best=True)
                leave_out_ignored(matches, anchors, target)
                sample = sample_balanced(matches, options.samples, options.positive_share)
                positive = sample.positive
                wanted.append(self.coder.encode(target.boxes[matches[positive]], anchors[positive]))
            scores.append(predicted.objectness[index, sample.all])
            labels.append(torch.zeros_like(scores[-1]))
            labels[-1][: len(positive)] = 1
            codes.append(predicted.codes[index, positive])
        sampled = torch.cat(scores)
        count = max(1, len(sampled))
        box = F.smooth_l1_loss(torch.cat(codes), torch.cat(wanted), beta=SMOOTH_L1, reduction="sum") / count
        objectness = F.binary_cross_entropy_with_logits(sampled, torch.cat(labels), reduction="sum") / count
        return {"rpn_objectness": objectness, "rpn_box": box}


def flatten_levels(predicted: torch.Tensor, numbers: int) -> torch.Tensor:
    """Reorder predictions (B, A·numbers, *S) as the anchors: (B, |S|·A, numbers)."""
    batch = len(predicted)
    by_anchor = predicted.reshape(batch, -1, numbers, predicted[0, 0].numel())
    return by_anchor.permute(0, 3, 1, 2).reshape(batch, -1, numbers)


def leave_out_ignored(matches: torch.Tensor, boxes: torch.Tensor, target: DetectionTargets) -> None:
    """Mark background boxes that lie by more than half in an ignored region, in place."""
    if len(target.ignored):
        covered = covered_share(boxes, target.ignored).amax(dim=1) > 0.5
        matches[covered & (matches == BACKGROUND)] = BETWEEN


def _best_of_levels(scores: torch.Tensor, counts: Sequence[int], most: int) -> torch.Tensor:
    """Return the indices of the ``most`` highest scores of each level."""
    chosen, start = [], 0
    for count in counts:
        chosen.append(scores[start : start + count].topk(min(count, most)).indices + start)
        start += count
    return torch.cat(chosen)
