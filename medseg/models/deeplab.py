"""The DeepLab family in 2D and 3D: v1 (LargeFOV), v2, v3, v3+."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import nn

from medseg.config.base import Spec
from medseg.model_output import Output
from medseg.models.backbones import BackboneConfig, ResNetConfig, VGGConfig
from medseg.models.base import BackboneNetwork, fcn_head
from medseg.models.layers.aspp import ASPP, SeparableStyle, SummedASPP
from medseg.models.layers.convolution import initialize_scores, resize
from medseg.models.layers.padding import linear_mode
from medseg.task import Task

Rates = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]


class DeepLabV1Config(Spec):
    """DeepLab-LargeFOV (Chen et al. 2015, arXiv:1412.7062): VGG16 whose first fully connected layer is a
    3×3 convolution with a large rate.

    Attributes:
        backbone: with a norm, that norm follows the head's convolutions too.
        output_stride: where strides become dilations; None: nowhere.
        rate: of the first convolution of the head.
        channels: of the head's two convolutions.
        dropout: after each of them.
    """

    name: Literal["deeplabv1"] = "deeplabv1"
    backbone: BackboneConfig = VGGConfig(pool_kernel=3)
    output_stride: PositiveInt | None = 8
    rate: PositiveInt = 12
    channels: PositiveInt = 1024
    dropout: float = Field(default=0.5, ge=0, lt=1)

    def build(self, task: Task) -> DeepLabV1:
        """The network for a task. Raises: ConfigError as the backbone."""
        return DeepLabV1(self, task)


class DeepLabV1(BackboneNetwork):
    """The network of a ``DeepLabV1Config``; see ``DenseNetwork``."""

    def __init__(self, config: DeepLabV1Config, task: Task) -> None:
        super().__init__(task, config.backbone, config.output_stride)
        self.classifier = nn.Sequential()
        inputs = self.backbone.channels[-1]
        for name, kernel, rate in (("fc6", 3, config.rate), ("fc7", 1, 1)):
            conv = self.parts.conv(inputs, config.channels, kernel, dilation=rate, bias=True)
            self.classifier.add_module(name, conv)
            if config.backbone.norm is not None:
                self.classifier.add_module(f"norm{name[-1]}", self.parts.normalization(config.channels))
            self.classifier.add_module(f"relu{name[-1]}", nn.ReLU(inplace=True))
            self.classifier.add_module(f"drop{name[-1]}", nn.Dropout(config.dropout))
            inputs = config.channels
        score = self.parts.conv(inputs, task.num_classes, bias=True)
        initialize_scores(score, 0.01)
        self.classifier.add_module("fc8", score)

    def scores(self, image: torch.Tensor) -> Output:
        return Output(self.classifier(self.backbone(image)[-1]))


class DeepLabV2Config(Spec):
    """DeepLab v2 (Chen et al. 2016, arXiv:1606.00915): a sum of dilated convolutions, and the maximum over
    several scales of the image.

    In training, every scale's scores come as deep logits next to the maximum (section 4.1.2).

    Attributes:
        backbone: the paper's ResNet-101 is Caffe's.
        output_stride: where strides become dilations; None: nowhere.
        rates: of the summed 3×3 convolutions.
        scales: of the image, besides 1; empty: none.
    """

    name: Literal["deeplabv2"] = "deeplabv2"
    backbone: BackboneConfig = ResNetConfig(depth=101, stride_on="1x1", first_dilation="full", ceil_pool=True)
    output_stride: PositiveInt | None = 8
    rates: Rates = (6, 12, 18, 24)
    scales: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.5, 0.75)

    def build(self, task: Task) -> DeepLabV2:
        """The network for a task. Raises: ConfigError as the backbone."""
        return DeepLabV2(self, task)


class DeepLabV2(BackboneNetwork):
    """The network of a ``DeepLabV2Config``; see ``DenseNetwork``."""

    def __init__(self, config: DeepLabV2Config, task: Task) -> None:
        super().__init__(task, config.backbone, config.output_stride)
        self.scales = config.scales
        self.aspp = SummedASPP(self.parts, self.backbone.channels[-1], task.num_classes, config.rates)
        if config.scales:  # the smallest copy must still be large enough
            smallest = min(config.scales)
            self.minimum_size = tuple(int(least / smallest + 1) for least in self.minimum_size)

    def single_scale(self, image: torch.Tensor) -> torch.Tensor:
        """Scores (B, K, *S') of the image at the size it has."""
        return self.aspp(self.backbone(image)[-1])

    def scores(self, image: torch.Tensor) -> Output:
        pyramid = [self.single_scale(image)]
        mode = linear_mode(self.spatial_dims)
        for scale in self.scales:
            smaller = F.interpolate(image, scale_factor=scale, mode=mode, align_corners=False)
            pyramid.append(self.single_scale(smaller))
        if len(pyramid) == 1:
            return Output(pyramid[0])
        size = pyramid[0].shape[2:]
        largest = torch.stack([resize(scores, size) for scores in pyramid]).amax(dim=0)
        return Output(largest, tuple(pyramid) if self.training else ())


class AtrousConfig(Spec):
    """Settings that DeepLab v3 and v3+ share.

    Attributes:
        backbone: any that can be dilated; with ``output_stride: null`` any at all.
        output_stride: where strides become dilations; None: nowhere.
        evaluation_output_stride: another one for evaluation (the paper trains at 16, evaluates at 8).
        rates: of the pyramid at output stride 16; doubled at 8, and so on.
        channels: of the pyramid and the decoder.
        dropout: after the pyramid.
        auxiliary: add a second head on feature map ``auxiliary_level``, used in training.
        auxiliary_level: index into the backbone's feature maps.
        align_corners: how scores are interpolated.
    """

    backbone: BackboneConfig = ResNetConfig()
    output_stride: PositiveInt | None = 16
    evaluation_output_stride: PositiveInt | None = None
    rates: Rates = (6, 12, 18)
    channels: PositiveInt = 256
    dropout: float = Field(default=0.5, ge=0, lt=1)
    auxiliary: bool = False
    auxiliary_level: int = -2
    align_corners: bool = False

    def rates_at(self, output_stride: int | None) -> tuple[int, ...]:
        """The pyramid's rates at an output stride (Chen et al. 2017, section 4.1)."""
        if output_stride is None:
            return self.rates
        return tuple(max(1, rate * 16 // output_stride) for rate in self.rates)


class AtrousNetwork(BackboneNetwork):
    """A backbone and a pyramid whose output stride may differ between training and evaluation.

    Subclasses make ``classifier`` or a decoder around the one ``ASPP`` they own.
    """

    def __init__(self, config: AtrousConfig, task: Task) -> None:
        super().__init__(task, config.backbone, config.output_stride, align_corners=config.align_corners)
        self.config = config
        self.aux_classifier: nn.Module | None = None
        if config.auxiliary:
            inputs = self.backbone.channels[config.auxiliary_level]
            self.aux_classifier = fcn_head(self.parts, inputs, max(1, inputs // 4), task.num_classes)

    def make_aspp(self, convolution: SeparableStyle | None = None) -> ASPP:
        """The pyramid on the last feature map."""
        config = self.config
        rates = config.rates_at(config.output_stride)
        inputs = self.backbone.channels[-1]
        return ASPP(self.parts, inputs, config.channels, rates, convolution, dropout=config.dropout)

    def set_output_stride(self, output_stride: int | None) -> None:
        """Change dilations of backbone and pyramid in place; the weights stay as they are.

        Raises: ConfigError if the backbone cannot reach it.
        """
        self.backbone.set_output_stride(output_stride)
        for module in self.modules():
            if isinstance(module, ASPP):
                module.set_rates(self.config.rates_at(output_stride))

    def train(self, mode: bool = True) -> AtrousNetwork:
        if self.config.evaluation_output_stride is not None:
            self.set_output_stride(self.config.output_stride if mode else self.config.evaluation_output_stride)
        super().train(mode)
        return self

    def auxiliary_scores(self, features: list[torch.Tensor]) -> torch.Tensor | None:
        """Scores of the auxiliary head; None without one, and in evaluation."""
        if self.aux_classifier is None or not self.training:
            return None
        return self.aux_classifier(features[self.config.auxiliary_level])


class DeepLabV3Config(AtrousConfig):
    """DeepLab v3 (Chen et al. 2017, arXiv:1706.05587). ``multi_grid`` is a setting of the ResNet.

    torchvision's has ``output_stride=8, auxiliary=True``; on MobileNetV3, ``output_stride=16,
    rates=(12, 24, 36), auxiliary_level=-3`` and ``tap="first"``. segmentation_models.pytorch's has
    ``output_stride=8, align_corners=True`` and a backbone with ``first_dilation="full"``.

    Attributes: see ``AtrousConfig``.
    """

    name: Literal["deeplabv3"] = "deeplabv3"

    def build(self, task: Task) -> DeepLabV3:
        """The network for a task. Raises: ConfigError as the backbone."""
        return DeepLabV3(self, task)


class DeepLabV3(AtrousNetwork):
    """The network of a ``DeepLabV3Config``; see ``DenseNetwork``. Keys are torchvision's."""

    def __init__(self, config: DeepLabV3Config, task: Task) -> None:
        super().__init__(config, task)
        width = config.channels
        self.classifier = nn.Sequential(
            self.make_aspp(),
            *self.parts.unit(width, width, 3),
            self.parts.conv(width, task.num_classes, bias=True),
        )

    def scores(self, image: torch.Tensor) -> Output:
        features = self.backbone(image)
        return Output(self.classifier(features[-1]), aux=self.auxiliary_scores(features))


class DeepLabV3PlusConfig(AtrousConfig):
    """DeepLab v3+ (Chen et al. 2018, arXiv:1802.02611): v3's pyramid, and a decoder on finer features.

    segmentation_models.pytorch's has ``rates=(12, 24, 36), norm_between=False, refine=True,
    decoder_convs=1, align_corners=True`` and a backbone with ``first_dilation="full"``.

    Attributes:
        low_level: index of the finer feature map among the backbone's; 1 is a ResNet's of stride 4.
        low_channels: what its channels are reduced to.
        decoder_convs: 3×3 convolutions after the concatenation.
        separable: depthwise separable 3×3 convolutions in pyramid and decoder.
        norm_between: norm and rectifier between depthwise and pointwise convolutions.
        refine: one more 3×3 convolution after the pyramid.
    """

    name: Literal["deeplabv3plus"] = "deeplabv3plus"
    low_level: int = 1
    low_channels: PositiveInt = 48
    decoder_convs: PositiveInt = 2
    separable: bool = True
    norm_between: bool = True
    refine: bool = False

    def build(self, task: Task) -> DeepLabV3Plus:
        """The network for a task. Raises: ConfigError as the backbone."""
        return DeepLabV3Plus(self, task)


class DeepLabV3Plus(AtrousNetwork):
    """The network of a ``DeepLabV3PlusConfig``; see ``DenseNetwork``."""

    def __init__(self, config: DeepLabV3PlusConfig, task: Task) -> None:
        super().__init__(config, task)
        style = SeparableStyle(norm_between=config.norm_between) if config.separable else None
        self.low_level = config.low_level
        self.aspp = self.make_aspp(style)
        width = config.channels
        self.refine = self._conv(style, width, width) if config.refine else nn.Identity()
        self.low = self.parts.unit(self.backbone.channels[config.low_level], config.low_channels)
        inputs = [width + config.low_channels] + [width] * (config.decoder_convs - 1)
        self.fuse = nn.Sequential(*(self._conv(style, count, width) for count in inputs))
        self.score = self.parts.conv(width, task.num_classes, bias=True)

    def scores(self, image: torch.Tensor) -> Output:
        features = self.backbone(image)
        low = features[self.low_level]
        high = self.refine(self.aspp(features[-1]))
        high = resize(high, low.shape[2:], align_corners=self.align_corners)
        fused = self.fuse(torch.cat((high, self.low(low)), dim=1))
        return Output(self.score(fused), aux=self.auxiliary_scores(features))

    def _conv(self, style: SeparableStyle | None, inputs: int, outputs: int) -> nn.Sequential:
        if style is None:
            return self.parts.unit(inputs, outputs, 3)
        return style.unit(self.parts, inputs, outputs)
