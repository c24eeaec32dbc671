"""U-Net++ in 2D and 3D with any backbone as its encoder."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import nn

from medseg.model_output import Output
from medseg.models.backbone_unet import DecoderConfig, DecoderStep
from medseg.models.base import BackboneNetwork
from medseg.task import Task


class UNetPlusPlusConfig(DecoderConfig):
    """Nested U-Net with dense skips (Zhou et al. 2018, arXiv:1807.10165) on any backbone.

    segmentation_models.pytorch uses ``full_skip=False``.

    Inherited attributes: see ``DecoderConfig``.

    Attributes:
        deep_supervision: compute logits of the other nodes of the finest encoder level too, in training
            (section 3.2).
    """

    paper: ClassVar[str] = "Zhou et al. 2018, arXiv:1807.10165"

    name: Literal["unetpp"] = "unetpp"
    deep_supervision: bool = False

    def build(self, task: Task) -> UNetPlusPlus:
        """Build the network. Raises: ConfigError as the backbone's ``build``, or for wrong ``channels``."""
        return UNetPlusPlus(self, task)


class UNetPlusPlus(BackboneNetwork):
    """U-Net++; see ``UNetPlusPlusConfig`` and ``SegmentationNetwork``.

    Node ``x_i_j`` is on skip level j (0 is the coarsest) and starts from encoder level i; ``x_0_j`` is the
    plain U-Net's. Its inputs are the node ``x_i_(j-1)`` below, and all nodes of its own level that start from
    a later encoder level, with the skip (Zhou et al. 2018, equation 1).
    """

    def __init__(self, config: UNetPlusPlusConfig, task: Task) -> None:
        super().__init__(task, config.backbone)
        self.skips = config.skips(self.backbone)
        self.depth = len(self.skips)
        skips = [self.backbone.channels[index] for index in self.skips]
        last = max(self.backbone.strides[self.skips[-1]]) > 1
        widths = config.widths(self.depth + last)
        below = (self.backbone.channels[-1], *widths[:-1])
        self.decoder = nn.Module()
        blocks = nn.ModuleDict()
        for level in range(self.depth):
            for start in range(level + 1):
                inputs = skips[level - 1] if start else below[level]
                outputs = skips[level] if start else widths[level]
                joined = skips[level] * (level + 1 - start)
                blocks[f"x_{start}_{level}"] = DecoderStep(self.layers, inputs, joined, outputs, config.up)
        if last:
            blocks[f"x_0_{self.depth}"] = DecoderStep(self.layers, below[-1], 0, widths[-1], config.up)
        self.decoder.blocks = blocks
        self.score = self.layers.conv(widths[-1], task.num_classes, 3, bias=True)
        starts = range(1, self.depth) if config.deep_supervision else ()
        self.deep_scores = nn.ModuleList(
            self.layers.conv(skips[-1], task.num_classes, bias=True) for _ in starts
        )

    def raw_logits(self, image: torch.Tensor) -> Output:
        features = self.backbone(image)
        skips = [features[index] for index in self.skips]
        encoded = [features[-1], *skips]
        nodes: dict[tuple[int, int], torch.Tensor] = {}
        for level, skip in enumerate(skips):
            for start in range(level, -1, -1):
                below = encoded[level] if start == level else nodes[start, level - 1]
                later = [nodes[other, level] for other in range(start + 1, level + 1)]
                nodes[start, level] = self._block(start, level).join(below, torch.cat([*later, skip], dim=1))
        x = nodes[0, self.depth - 1]
        if f"x_0_{self.depth}" in self._blocks:
            x = self._block(0, self.depth).enlarge(x, image.shape[2:])
        deep = ()
        if self.training:
            last = self.depth - 1
            deep = tuple(head(nodes[start, last]) for start, head in enumerate(self.deep_scores, start=1))
        return Output(self.score(x), deep)

    @property
    def _blocks(self) -> nn.ModuleDict:
        blocks = self.decoder.get_submodule("blocks")
        assert isinstance(blocks, nn.ModuleDict)
        return blocks

    def _block(self, start: int, level: int) -> DecoderStep:
        block = self._blocks[f"x_{start}_{level}"]
        assert isinstance(block, DecoderStep)
        return block
