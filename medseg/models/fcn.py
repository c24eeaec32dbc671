"""Fully convolutional networks in 2D and 3D, on VGG and on dilated backbones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt, model_validator
from torch import nn

from medseg.model_output import Output
from medseg.models.backbones import VGG, BackboneConfig, ResNetConfig, VGGConfig
from medseg.models.base import ArchitectureConfig, BackboneNetwork, SegmentationNetwork, fcn_head
from medseg.models.layers.axes import AxisTuple
from medseg.models.layers.factory import LayerFactory
from medseg.models.layers.padding import padded_size
from medseg.models.layers.upsampling import linear_upsampling
from medseg.task import Task

_BORDER = 99  # the original's first convolution is padded by 100, of which the convolution itself has 1
_CROPS = {32: (19,), 16: (5, 27), 8: (5, 9, 31)}  # of the skips, then of the image (from Caffe's model files)
_AT_ONCE = (1.0, 0.01, 0.0001)  # of pool5, pool4 and pool3, to bring their logits to one scale


class FCNConfig(ArchitectureConfig):
    """FCN on a dilated backbone; the defaults and the state-dict keys are torchvision's ``fcn_resnet50``.

    Attributes:
        backbone: settings of the backbone; its last feature map is classified.
        output_stride: where strides become dilations; None: nowhere.
        channels: of the head; None: a quarter of the feature map's.
        dropout: probability before the last convolution.
        auxiliary: add an auxiliary head on the second-last feature map, used in training.
        align_corners: how logits are interpolated.
    """

    paper: ClassVar[str] = "torchvision's ``fcn_resnet50``"

    name: Literal["fcn"] = "fcn"
    backbone: BackboneConfig = ResNetConfig()
    output_stride: PositiveInt | None = 8
    channels: PositiveInt | None = None
    dropout: float = Field(default=0.1, ge=0, lt=1)
    auxiliary: bool = True
    align_corners: bool = False

    def build(self, task: Task) -> FCN:
        """Build the network. Raises: ConfigError as the backbone's ``build``."""
        return FCN(self, task)


class FCN(BackboneNetwork):
    """FCN on a dilated backbone; see ``FCNConfig`` and ``SegmentationNetwork``."""

    def __init__(self, config: FCNConfig, task: Task) -> None:
        super().__init__(task, config.backbone, config.output_stride, align_corners=config.align_corners)
        classes = task.num_classes
        inner, last = self.backbone.channels[-2:]
        width = config.channels or max(1, last // 4)
        self.classifier = fcn_head(self.layers, last, width, classes, dropout=config.dropout)
        self.aux_classifier: nn.Module | None = None
        if config.auxiliary:
            self.aux_classifier = fcn_head(self.layers, inner, max(1, inner // 4), classes)

    def raw_logits(self, image: torch.Tensor) -> Output:
        features = self.backbone(image)
        aux = None
        if self.training and self.aux_classifier is not None:
            aux = self.aux_classifier(features[-2])
        return Output(self.classifier(features[-1]), aux=aux)


class FCNVGGConfig(ArchitectureConfig):
    """FCN-32s, 16s and 8s on VGG (Long et al. 2015, arXiv:1411.4038; Shelhamer et al. 2017,
    arXiv:1605.06211).

    The layers that compute logits are initialized with zeros, the transposed convolutions with linear
    interpolation; the last one is not trained.

    Attributes:
        backbone: settings of the VGG; if it has a norm, fc6 and fc7 have that norm too.
        stride: of the finest logits: 32, 16 or 8.
        at_once: scale the pooled features of the finer logits by 0.01 and 0.0001, to train all at once.
        padding: ``same``: every layer keeps the size and the image is padded to a multiple of the total
            stride; ``original``: the image gets a border of 100 zeros, sizes are rounded up, and logits are
            cropped (in 3D such a border needs much memory).
        channels: of fc6 and fc7.
        kernel: width of fc6.
        dropout: probability after fc6 and fc7.
    """

    paper: ClassVar[str] = "Long et al. 2015, arXiv:1411.4038; Shelhamer et al. 2017, arXiv:1605.06211"

    name: Literal["fcn_vgg"] = "fcn_vgg"
    backbone: VGGConfig = VGGConfig(norm="batch")
    stride: Literal[32, 16, 8] = 8
    at_once: bool = False
    padding: Literal["same", "original"] = "same"
    channels: PositiveInt = 4096
    kernel: PositiveInt = 7
    dropout: float = Field(default=0.5, ge=0, lt=1)

    @model_validator(mode="after")
    def _check_padding(self) -> FCNVGGConfig:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel}; it must be odd")
        if self.padding == "original" and (self.kernel != 7 or set(self.backbone.pool_strides) != {2}):
            raise ValueError(
                "padding original is defined for kernel 7 and pool_strides 2 only; use padding same"
            )
        return self

    def build(self, task: Task) -> FCNVGG:
        """Build the network. Raises: ConfigError as the backbone's ``build``."""
        return FCNVGG(self, task)


class FCNVGG(SegmentationNetwork):
    """FCN on a VGG; see ``FCNVGGConfig`` and ``SegmentationNetwork``.

    State-dict keys: ``score.0`` computes the logits of pool5, ``score.1`` those of pool4 and ``score.2`` those
    of pool3; ``upscore.i`` brings their running sum to the next finer grid, the last one to the image's.
    """

    def __init__(self, config: FCNVGGConfig, task: Task) -> None:
        super().__init__(task)
        original = config.padding == "original"
        backbone = config.backbone.model_copy(update={"ceil_pool": True}) if original else config.backbone
        self.layers = LayerFactory(task.spatial_dims, backbone.norm or "batch", backbone.norm_groups)
        self.backbone: VGG = backbone.build(task.spatial_dims, task.in_channels)
        count = {32: 1, 16: 2, 8: 3}[config.stride]
        self.border = _BORDER if original else 0
        self.crops = _CROPS[config.stride] if original else (0,) * count
        self.factors = _AT_ONCE[:count] if config.at_once else (1.0,) * count

        self.head = _head(self.layers, config, self.backbone.channels[-1])
        inputs = (config.channels, *self.backbone.channels[3:1:-1])[:count]
        self.score = nn.ModuleList(self.layers.pointwise(count, task.num_classes) for count in inputs)
        for layer in self.score:
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
        totals = [*reversed(self.backbone.strides[6 - count :]), (1,) * task.spatial_dims]
        self.upscore = nn.ModuleList(
            linear_upsampling(task.num_classes, _ratio(coarse, fine), padded=not original)
            for coarse, fine in pairwise(totals)
        )
        self.upscore[-1].requires_grad_(False)

    def padded_size(self, size: Sequence[int]) -> tuple[int, ...]:
        return tuple(size) if self.border else padded_size(size, self.backbone.strides[-1])

    def raw_logits(self, image: torch.Tensor) -> Output:
        features = self.backbone(F.pad(image, [self.border] * (2 * self.spatial_dims)))
        x = self.score[0](self.head(features[-1] * self.factors[0]))
        for index, score in enumerate(list(self.score)[1:], start=1):
            x = self.upscore[index - 1](x)
            level = 4 - index
            pooled = self.backbone.pooled(level, features[level])
            skip = score(pooled * self.factors[index])
            x = x + _crop(skip, self.crops[index - 1], x.shape[2:])
        return Output(_crop(self.upscore[-1](x), self.crops[-1], image.shape[2:]))


def _head(layers: LayerFactory, config: FCNVGGConfig, inputs: int) -> nn.Sequential:
    head = nn.Sequential()
    for name, kernel in (("fc6", config.kernel), ("fc7", 1)):
        if config.padding == "original":
            conv = layers.unpadded_conv(inputs, config.channels, kernel)
        else:
            conv = layers.conv(inputs, config.channels, kernel, bias=True)
        head.add_module(name, conv)
        if config.backbone.norm is not None:
            head.add_module(f"norm{name[-1]}", layers.normalization(config.channels))
        head.add_module(f"relu{name[-1]}", nn.ReLU(inplace=True))
        head.add_module(f"drop{name[-1]}", layers.dropout(config.dropout))
        inputs = config.channels
    return head


def _ratio(coarse: AxisTuple, fine: AxisTuple) -> AxisTuple:
    return tuple(a // b for a, b in zip(coarse, fine, strict=True))


def _crop(x: torch.Tensor, offset: int, size: Sequence[int]) -> torch.Tensor:
    for axis, length in enumerate(size, start=2):
        x = x.narrow(axis, offset, length)
    return x
