"""The DeepLab family in 2D and 3D: v1 (LargeFOV), v2, v3 and v3+."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import nn

from medseg.model_output import Output
from medseg.models.backbones import BackboneConfig, ResNetConfig, VGGConfig
from medseg.models.base import ArchitectureConfig, BackboneNetwork, fcn_head
from medseg.models.layers.aspp import ASPP, SeparableConv, SummedASPP
from medseg.models.layers.initialization import initialize_logits
from medseg.models.layers.padding import linear_mode, resize_linear
from medseg.task import Task

Rates = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]


class DeepLabV1Config(ArchitectureConfig):
    """DeepLab-LargeFOV (Chen et al. 2015, arXiv:1412.7062): VGG16 whose first fully connected layer becomes a
    3×3 convolution with a large rate.

    Attributes:
        backbone: settings of the backbone; if it has a norm, the head's convolutions have that norm too.
        output_stride: where strides become dilations; None: nowhere.
        rate: dilation of the head's first convolution.
        channels: of the head's two convolutions.
        dropout: probability after each of them.
    """

    paper: ClassVar[str] = "Chen et al. 2015, arXiv:1412.7062"

    name: Literal["deeplabv1"] = "deeplabv1"
    backbone: BackboneConfig = VGGConfig(pool_kernel=3)
    output_stride: PositiveInt | None = 8
    rate: PositiveInt = 12
    channels: PositiveInt = 1024
    dropout: float = Field(default=0.5, ge=0, lt=1)

    def build(self, task: Task) -> DeepLabV1:
        """Build the network. Raises: ConfigError as the backbone's ``build``."""
        return DeepLabV1(self, task)


class DeepLabV1(BackboneNetwork):
    """DeepLab v1; see ``DeepLabV1Config`` and ``SegmentationNetwork``."""

    def __init__(self, config: DeepLabV1Config, task: Task) -> None:
        super().__init__(task, config.backbone, config.output_stride)
        self.classifier = nn.Sequential()
        inputs = self.backbone.channels[-1]
        for name, kernel, rate in (("fc6", 3, config.rate), ("fc7", 1, 1)):
            conv = self.layers.conv(inputs, config.channels, kernel, dilation=rate, bias=True)
            self.classifier.add_module(name, conv)
            if config.backbone.norm is not None:
                self.classifier.add_module(f"norm{name[-1]}", self.layers.normalization(config.channels))
            self.classifier.add_module(f"relu{name[-1]}", nn.ReLU(inplace=True))
            self.classifier.add_module(f"drop{name[-1]}", nn.Dropout(config.dropout))
            inputs = config.channels
        head = self.layers.pointwise(inputs, task.num_classes)
        initialize_logits(head, 0.01)
        self.classifier.add_module("fc8", head)

    def raw_logits(self, image: torch.Tensor) -> Output:
        return Output(self.classifier(self.backbone(image)[-1]))


class DeepLabV2Config(ArchitectureConfig):
    """DeepLab v2 (Chen et al. 2016, arXiv:1606.00915): a sum of dilated convolutions, and the maximum over
    several scales of the image.

    In training, the logits of every scale are deep logits besides the maximum (section 4.1.2).

    Attributes:
        backbone: settings of the backbone; the default is the paper's ResNet-101, as in Caffe.
        output_stride: where strides become dilations; None: nowhere.
        rates: dilations of the summed 3×3 convolutions.
        scales: scales of the image besides 1; empty: only 1.
    """

    paper: ClassVar[str] = "Chen et al. 2016, arXiv:1606.00915"

    name: Literal["deeplabv2"] = "deeplabv2"
    backbone: BackboneConfig = ResNetConfig(depth=101, stride_on="1x1", first_dilation="full", ceil_pool=True)
    output_stride: PositiveInt | None = 8
    rates: Rates = (6, 12, 18, 24)
    scales: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.5, 0.75)

    def build(self, task: Task) -> DeepLabV2:
        """Build the network. Raises: ConfigError as the backbone's ``build``."""
        return DeepLabV2(self, task)


class DeepLabV2(BackboneNetwork):
    """DeepLab v2; see ``DeepLabV2Config`` and ``SegmentationNetwork``."""

    def __init__(self, config: DeepLabV2Config, task: Task) -> None:
        super().__init__(task, config.backbone, config.output_stride)
        self.scales = config.scales
        self.aspp = SummedASPP(self.layers, self.backbone.channels[-1], task.num_classes, config.rates)
        if config.scales:  # the smallest copy must not be smaller than the backbone's minimum
            smallest = min(config.scales)
            self.minimum_size = tuple(int(least / smallest + 1) for least in self.minimum_size)

    def single_scale_logits(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the logits (B, K, *S') of the image at one scale."""
        return self.aspp(self.backbone(image)[-1])

    def raw_logits(self, image: torch.Tensor) -> Output:
        pyramid = [self.single_scale_logits(image)]
        mode = linear_mode(self.spatial_dims)
        for scale in self.scales:
            smaller = F.interpolate(image, scale_factor=scale, mode=mode, align_corners=False)
            pyramid.append(self.single_scale_logits(smaller))
        if len(pyramid) == 1:
            return Output(pyramid[0])
        size = pyramid[0].shape[2:]
        largest = torch.stack([resize_linear(logits, size) for logits in pyramid]).amax(dim=0)
        return Output(largest, tuple(pyramid) if self.training else ())


class AtrousConfig(ArchitectureConfig):
    """Settings that DeepLab v3 and v3+ share.

    Attributes:
        backbone: settings of a backbone that can be dilated; with ``output_stride: null``, of any backbone.
        output_stride: where strides become dilations; None: nowhere.
        evaluation_output_stride: output stride in evaluation; None: the same (the paper trains at 16 and
            evaluates at 8).
        rates: dilations of the pyramid at output stride 16; doubled at 8, and so on.
        channels: of the pyramid and the decoder.
        dropout: probability after the pyramid.
        auxiliary: add an auxiliary head on feature map ``auxiliary_level``, used in training.
        auxiliary_level: index into the backbone's feature maps.
        align_corners: how logits are interpolated.
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
        """Return the pyramid's rates at an output stride (Chen et al. 2017, section 4.1)."""
        if output_stride is None:
            return self.rates
        return tuple(max(1, rate * 16 // output_stride) for rate in self.rates)


class AtrousNetwork(BackboneNetwork):
    """A backbone and an ``ASPP`` whose output stride can differ between training and evaluation.

    Subclasses create the ``ASPP`` and a classifier or decoder after it.
    """

    def __init__(self, config: AtrousConfig, task: Task) -> None:
        super().__init__(task, config.backbone, config.output_stride, align_corners=config.align_corners)
        self.config = config
        self.aux_classifier: nn.Module | None = None
        if config.auxiliary:
            inputs = self.backbone.channels[config.auxiliary_level]
            self.aux_classifier = fcn_head(self.layers, inputs, max(1, inputs // 4), task.num_classes)

    def create_aspp(self, separable: SeparableConv | None = None) -> ASPP:
        """Create the pyramid on the last feature map."""
        config = self.config
        rates = config.rates_at(config.output_stride)
        inputs = self.backbone.channels[-1]
        return ASPP(self.layers, inputs, config.channels, rates, separable, dropout=config.dropout)

    def set_output_stride(self, output_stride: int | None) -> None:
        """Change the dilations of the backbone and the pyramid in place; the weights stay valid.

        Raises:
            ConfigError: if the backbone cannot reach ``output_stride``.
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

    def auxiliary_logits(self, features: list[torch.Tensor]) -> torch.Tensor | None:
        """Compute the auxiliary head's logits; None without such a head, and in evaluation."""
        if self.aux_classifier is None or not self.training:
            return None
        return self.aux_classifier(features[self.config.auxiliary_level])


class DeepLabV3Config(AtrousConfig):
    """DeepLab v3 (Chen et al. 2017, arXiv:1706.05587). ``multi_grid`` is a setting of the ResNet.

    Settings of other implementations:

    - torchvision: ``output_stride=8, auxiliary=True``; on MobileNetV3 ``output_stride=16,
      rates=(12, 24, 36), auxiliary_level=-3`` and ``tap="first"``.
    - segmentation_models.pytorch: ``output_stride=8, align_corners=True`` and a backbone with
      ``first_dilation="full"``.

    Inherited attributes: see ``AtrousConfig``.
    """

    paper: ClassVar[str] = "Chen et al. 2017, arXiv:1706.05587"

    name: Literal["deeplabv3"] = "deeplabv3"

    def build(self, task: Task) -> DeepLabV3:
        """Build the network. Raises: ConfigError as the backbone's ``build``."""
        return DeepLabV3(self, task)


class DeepLabV3(AtrousNetwork):
    """DeepLab v3; see ``DeepLabV3Config`` and ``SegmentationNetwork``. State-dict keys are torchvision's."""

    def __init__(self, config: DeepLabV3Config, task: Task) -> None:
        super().__init__(config, task)
        width = config.channels
        self.classifier = nn.Sequential(
            self.create_aspp(),
            *self.layers.conv_unit(width, width, 3),
            self.layers.pointwise(width, task.num_classes),
        )

    def raw_logits(self, image: torch.Tensor) -> Output:
        features = self.backbone(image)
        return Output(self.classifier(features[-1]), aux=self.auxiliary_logits(features))


class DeepLabV3PlusConfig(AtrousConfig):
    """DeepLab v3+ (Chen et al. 2018, arXiv:1802.02611): v3's pyramid, and a decoder on finer features.

    The settings of segmentation_models.pytorch are ``rates=(12, 24, 36), norm_between=False, refine=True,
    decoder_convs=1, align_corners=True`` and a backbone with ``first_dilation="full"``.

    Inherited attributes: see ``AtrousConfig``.

    Attributes:
        low_level: index of the finer feature map among the backbone's; 1 is a ResNet's of stride 4.
        low_channels: number of channels to which it is reduced.
        decoder_convs: number of 3×3 convolutions after the concatenation.
        separable: use depthwise separable 3×3 convolutions in pyramid and decoder.
        norm_between: put a norm and an activation between depthwise and pointwise convolutions.
        refine: add a 3×3 convolution after the pyramid.

    Example:
        >>> from medseg.models.backbones import ResNetConfig
        >>> config = DeepLabV3PlusConfig(backbone=ResNetConfig(depth=18, width=0.25), channels=32)
        >>> network = config.build(Task(spatial_dims=2, in_channels=3, num_classes=4)).eval()
        >>> network(torch.zeros(1, 3, 60, 80)).shape
        torch.Size([1, 4, 60, 80])
    """

    paper: ClassVar[str] = "Chen et al. 2018, arXiv:1802.02611"

    name: Literal["deeplabv3plus"] = "deeplabv3plus"
    low_level: int = 1
    low_channels: PositiveInt = 48
    decoder_convs: PositiveInt = 2
    separable: bool = True
    norm_between: bool = True
    refine: bool = False

    def build(self, task: Task) -> DeepLabV3Plus:
        """Build the network. Raises: ConfigError as the backbone's ``build``."""
        return DeepLabV3Plus(self, task)


class DeepLabV3Plus(AtrousNetwork):
    """DeepLab v3+; see ``DeepLabV3PlusConfig`` and ``SegmentationNetwork``."""

    def __init__(self, config: DeepLabV3PlusConfig, task: Task) -> None:
        super().__init__(config, task)
        separable = SeparableConv(norm_between=config.norm_between) if config.separable else None
        self.low_level = config.low_level
        self.aspp = self.create_aspp(separable)
        width = config.channels
        self.refine = self._conv_unit(separable, width, width) if config.refine else nn.Identity()
        self.low = self.layers.conv_unit(self.backbone.channels[config.low_level], config.low_channels)
        inputs = [width + config.low_channels] + [width] * (config.decoder_convs - 1)
        self.fuse = nn.Sequential(*(self._conv_unit(separable, count, width) for count in inputs))
        self.score = self.layers.pointwise(width, task.num_classes)

    def raw_logits(self, image: torch.Tensor) -> Output:
        features = self.backbone(image)
        low = features[self.low_level]
        high = self.refine(self.aspp(features[-1]))
        high = resize_linear(high, low.shape[2:], align_corners=self.align_corners)
        fused = self.fuse(torch.cat((high, self.low(low)), dim=1))
        return Output(self.score(fused), aux=self.auxiliary_logits(features))

    def _conv_unit(self, separable: SeparableConv | None, inputs: int, outputs: int) -> nn.Sequential:
        if separable is None:
            return self.layers.conv_unit(inputs, outputs, 3)
        return separable.conv_unit(self.layers, inputs, outputs)
