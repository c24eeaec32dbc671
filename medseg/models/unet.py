"""U-Net in 2D and 3D (Ronneberger et al. 2015; Çiçek et al. 2016; Isensee et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from monai.networks.layers.factories import Pool
from pydantic import Field, PositiveInt, model_validator
from torch import nn

from medseg.model_output import Output
from medseg.models.base import ArchitectureConfig, SegmentationNetwork
from medseg.models.layers.attention import AttentionGate
from medseg.models.layers.axes import AxisTuple, PerLevel, multiply, resolve_per_axis
from medseg.models.layers.blocks import StackShape, conv_stack, residual_stack
from medseg.models.layers.factory import ActivationName, LayerFactory
from medseg.models.layers.initialization import initialize_fan_in
from medseg.models.layers.norms import NormName
from medseg.models.layers.padding import crop_end, linear_mode, padded_size
from medseg.models.layers.upsampling import upsampling_head
from medseg.task import Task


class UNetConfig(ArchitectureConfig):
    """U-Net: encoder and decoder with skip connections (Ronneberger et al. 2015, arXiv:1505.04597; in 3D,
    Çiçek et al. 2016, arXiv:1606.06650).

    The defaults are nnU-Net's (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z): strided convolutions,
    instance norm, leaky ReLU. Levels are counted downwards from the full resolution, which is level 0.

    Attributes:
        channels: of each level, at least 2 levels.
        kernel: odd kernel widths: one number, or one entry per level (a number, or one number per axis).
        stride: from the level above to each level, in the same form, level 0 first. One number applies
            between levels and leaves level 0 at the full resolution; (1, (1, 2, 2), 2) keeps an axis.
        convs_per_level: number of convolutions of the encoder: one number, or one per level.
        decoder_convs: number of convolutions of the decoder: one number, or one per level (level 0 first, one
            entry fewer than the encoder); None: as ``convs_per_level``.
        norm: kind of norm after each convolution.
        norm_groups: groups of a ``group`` norm; must divide every number of channels.
        activation: kind of activation.
        up: ``transposed`` convolution with kernel = stride, or ``linear`` interpolation (bilinear in 2D,
            trilinear in 3D) after a 1×1(×1) convolution.
        down: ``conv``: the level's first convolution has the stride; ``maxpool``: a pooling before it does.
        skip: how an encoder level joins its decoder level: ``concat``, ``add`` or ``none``.
        attention: weigh each skip by a gate that the level below controls (Oktay et al. 2018,
            arXiv:1804.03999, who leave out level 0).
        residual: put a shortcut around the convolutions of each level (He et al. 2016, arXiv:1512.03385).
        dropout: probability of setting a channel to zero after each convolution.
        deep_supervision: number of additional heads, on decoder levels 1, 2, … (at most levels - 2).
        head_up: how the logits of a network whose level 0 has a stride reach the resolution of the image:
            ``linear`` interpolation, or a ``transposed`` convolution of about twice the stride's width, which
            learns the voxels between those of level 0. It starts as the interpolation.

    Example:
        >>> import torch
        >>> network = UNetConfig(channels=(8, 16, 32)).build(Task(spatial_dims=3, in_channels=1, num_classes=2))
        >>> network(torch.zeros(1, 1, 9, 16, 12)).shape
        torch.Size([1, 2, 9, 16, 12])
    """

    paper: ClassVar[str] = (
        "Ronneberger et al. 2015, arXiv:1505.04597; in 3D, Çiçek et al. 2016, arXiv:1606.06650"
    )

    name: Literal["unet"] = "unet"
    channels: tuple[PositiveInt, ...] = Field(default=(32, 64, 128, 256, 320), min_length=2)
    kernel: PositiveInt | PerLevel = 3
    stride: PositiveInt | PerLevel = 2
    convs_per_level: PositiveInt | tuple[PositiveInt, ...] = 2
    decoder_convs: PositiveInt | tuple[PositiveInt, ...] | None = None
    norm: NormName = "instance"
    norm_groups: PositiveInt = 8
    activation: ActivationName = "leaky_relu"
    up: Literal["transposed", "linear"] = "transposed"
    down: Literal["conv", "maxpool"] = "conv"
    skip: Literal["concat", "add", "none"] = "concat"
    attention: bool = False
    residual: bool = False
    dropout: float = Field(default=0.0, ge=0, lt=1)
    deep_supervision: int = Field(default=0, ge=0)
    head_up: Literal["linear", "transposed"] = "linear"

    @model_validator(mode="after")
    def _check_levels(self) -> UNetConfig:
        levels = len(self.channels)
        wanted = {"kernel": levels, "stride": levels, "convs_per_level": levels, "decoder_convs": levels - 1}
        for field, expected in wanted.items():
            value = getattr(self, field)
            if isinstance(value, tuple) and len(value) != expected:
                why = " (the lowest level has no decoder)" if field == "decoder_convs" else ""
                raise ValueError(
                    f"{field} has {len(value)} entries, but channels has {levels} levels: give {expected} "
                    f"entries{why}, or one number"
                )
        if self.deep_supervision > levels - 2:
            raise ValueError(
                f"deep_supervision is {self.deep_supervision}, but {levels} levels have room for "
                f"{levels - 2} extra heads (every decoder level but the finest)"
            )
        return self

    @model_validator(mode="after")
    def _check_numbers(self) -> UNetConfig:
        kernels = self.kernel if isinstance(self.kernel, tuple) else (self.kernel,)
        for level, kernel in enumerate(kernels):
            if any(width % 2 == 0 for width in (kernel if isinstance(kernel, tuple) else (kernel,))):
                raise ValueError(f"kernel of level {level} is {kernel}; widths must be odd, to keep the size")
        uneven = [count for count in self.channels if count % self.norm_groups]
        if self.norm == "group" and uneven:
            raise ValueError(f"norm_groups is {self.norm_groups}, which does not divide channels {uneven}")
        if self.attention and self.skip == "none":
            raise ValueError("attention weighs skips, but skip is none; set skip to concat or add")
        return self

    def kernels(self, spatial_dims: int) -> list[AxisTuple]:
        """Return the kernel of each level. Raises: ConfigError if an entry has other axes than the task."""
        values = self.kernel if isinstance(self.kernel, tuple) else (self.kernel,) * len(self.channels)
        return _resolve_levels("kernel", values, spatial_dims)

    def strides(self, spatial_dims: int) -> list[AxisTuple]:
        """Return the stride into each level. Raises: ConfigError if an entry has other axes than the task."""
        between = len(self.channels) - 1
        values = self.stride if isinstance(self.stride, tuple) else (1,) + (self.stride,) * between
        return _resolve_levels("stride", values, spatial_dims)

    def size_divisor(self, spatial_dims: int) -> AxisTuple:
        """Return the total stride of each axis; image sizes that it divides need no padding."""
        return _total_strides(self.strides(spatial_dims))[-1]

    def encoder_counts(self) -> tuple[int, ...]:
        """Return the number of convolutions of each encoder level."""
        counts = self.convs_per_level
        return counts if isinstance(counts, tuple) else (counts,) * len(self.channels)

    def decoder_counts(self) -> tuple[int, ...]:
        """Return the number of convolutions of each decoder level, level 0 first."""
        counts = self.encoder_counts()[:-1] if self.decoder_convs is None else self.decoder_convs
        return counts if isinstance(counts, tuple) else (counts,) * (len(self.channels) - 1)

    def build(self, task: Task) -> UNet:
        """Build the network. Raises: ConfigError if a kernel or stride has other axes than the task."""
        return UNet(self, task)


class UNet(SegmentationNetwork):
    """U-Net; see ``UNetConfig``.

    Images are padded to a multiple of ``size_divisor``. In training with deep supervision, the deep logits of
    a decoder level have that level's size, S / stride, where its stride divides S. Otherwise they are
    interpolated to S, so that a loss can always compare them with the target resampled to their size; patch
    sizes that ``size_divisor`` divides save that cost.

    State-dict keys: ``encoder.0`` and ``decoder.0`` are the finest levels; ``head`` computes the logits,
    ``deep_heads.0`` those of ``decoder.1``. Shapes and errors: ``SegmentationNetwork``.

    Example:
        >>> network = UNet(UNetConfig(channels=(8, 16)), Task(spatial_dims=2, in_channels=1, num_classes=3))
        >>> network(torch.zeros(1, 1, 30, 30)).shape
        torch.Size([1, 3, 30, 30])
    """

    def __init__(self, config: UNetConfig, task: Task) -> None:
        super().__init__(task)
        layers = LayerFactory(task.spatial_dims, config.norm, config.norm_groups, config.activation)
        kernels, strides = config.kernels(task.spatial_dims), config.strides(task.spatial_dims)
        self.scales = _total_strides(strides)

        channels = config.channels
        self.encoder = nn.ModuleList()
        inputs = task.in_channels
        for level, count in enumerate(config.encoder_counts()):
            shape = StackShape(inputs, channels[level], kernels[level], strides[level], count)
            self.encoder.append(_encoder_level(config, layers, shape))
            inputs = channels[level]
        self.decoder = nn.ModuleList()
        for level, count in enumerate(config.decoder_counts()):
            shape = StackShape(channels[level + 1], channels[level], kernels[level], strides[level + 1], count)
            self.decoder.append(_decoder_level(config, layers, shape))
        self.head = layers.pointwise(channels[0], task.num_classes)
        self.deep_heads = nn.ModuleList(
            layers.pointwise(channels[level], task.num_classes)
            for level in range(1, config.deep_supervision + 1)
        )
        initialize_fan_in(self)
        if config.head_up == "transposed" and max(self.scales[0]) > 1:
            self.head = upsampling_head(self.head, self.scales[0])
        for module in self.modules():
            if isinstance(module, AttentionGate):
                module.open()

    @property
    def size_divisor(self) -> AxisTuple:
        """Total stride of each axis; image sizes that it divides need no padding."""
        return self.scales[-1]

    def padded_size(self, size: Sequence[int]) -> tuple[int, ...]:
        return padded_size(size, self.size_divisor)

    def raw_logits(self, image: torch.Tensor) -> Output:
        features = self._decode(self._encode(image))
        logits = self.head(features[0])
        if not self.training:
            return Output(logits)
        heads = enumerate(self.deep_heads, start=1)
        return Output(logits, tuple(head(features[level]) for level, head in heads))

    def fit_deep_logits(
        self, deep: tuple[torch.Tensor, ...], padded: tuple[int, ...], size: tuple[int, ...]
    ) -> tuple[torch.Tensor, ...]:
        fitted: list[torch.Tensor] = []
        for logits, scale in zip(deep, self.scales[1:], strict=False):
            if any(length % step for length, step in zip(size, scale, strict=True)):
                fitted.append(self.fit_logits(logits, padded, size))
            else:
                own = [length // step for length, step in zip(size, scale, strict=True)]
                fitted.append(crop_end(logits, own))
        return tuple(fitted)

    def _encode(self, x: torch.Tensor) -> list[torch.Tensor]:
        features: list[torch.Tensor] = []
        for level in self.encoder:
            x = level(x)
            features.append(x)
        return features

    def _decode(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        x = features.pop()
        for index in reversed(range(len(self.decoder))):
            x = self.decoder[index](x, features[index])
            features[index] = x
        return features


class DecoderLevel(nn.Module):
    """Upsample the level below, join the encoder's features and convolve.

    Args:
        up: brings the level below to this level's size and channels.
        stack: the convolutions.
        skip: how the encoder's features are joined.
        gate: weighs the encoder's features; None: all of them pass.
    """

    def __init__(
        self,
        up: nn.Module,
        stack: nn.Module,
        skip: Literal["concat", "add", "none"],
        gate: AttentionGate | None = None,
    ) -> None:
        super().__init__()
        self.up = up
        self.stack = stack
        self.skip = skip
        self.gate = gate

    def forward(self, below: torch.Tensor, encoded: torch.Tensor) -> torch.Tensor:
        if self.gate is not None:
            encoded = self.gate(encoded, below)
        x = self.up(below)
        if self.skip == "concat":
            x = torch.cat((x, encoded), dim=1)
        elif self.skip == "add":
            x = x + encoded
        return self.stack(x)


def _encoder_level(config: UNetConfig, layers: LayerFactory, shape: StackShape) -> nn.Module:
    stack = residual_stack if config.residual else conv_stack
    if config.down == "conv" or max(shape.stride) == 1:
        return stack(layers, shape, dropout=config.dropout)
    pool = Pool["max", layers.spatial_dims](kernel_size=shape.stride, stride=shape.stride)
    return nn.Sequential(pool, stack(layers, shape.with_stride_one(shape.inputs), dropout=config.dropout))


def _decoder_level(config: UNetConfig, layers: LayerFactory, shape: StackShape) -> DecoderLevel:
    """``shape`` goes from the channels of the level below to the level's own, with the stride between them."""
    below, own = shape.inputs, shape.outputs
    if config.up == "transposed":
        up = layers.transposed_conv(below, own, shape.stride)
    else:  # a pointwise convolution commutes with interpolation and is cheaper before it
        factors = tuple(map(float, shape.stride))
        interpolate = nn.Upsample(scale_factor=factors, mode=linear_mode(layers.spatial_dims))
        up = nn.Sequential(layers.pointwise(below, own), interpolate)
    stack = residual_stack if config.residual else conv_stack
    joined = shape.with_stride_one(2 * own if config.skip == "concat" else own)
    convs = stack(layers, joined, dropout=config.dropout)
    gate = AttentionGate(layers, own, below, shape.stride) if config.attention else None
    return DecoderLevel(up, convs, config.skip, gate)


def _resolve_levels(field: str, values: PerLevel, spatial_dims: int) -> list[AxisTuple]:
    return [
        resolve_per_axis(f"{field} of level {level}", value, spatial_dims) for level, value in enumerate(values)
    ]


def _total_strides(strides: list[AxisTuple]) -> list[AxisTuple]:
    """Return the total stride of each level, level 0 first."""
    totals = [strides[0]]
    for stride in strides[1:]:
        totals.append(multiply(totals[-1], stride))
    return totals
