"""U-Net in 2D and 3D, from one class (Ronneberger et al. 2015; Çiçek et al. 2016; Isensee et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from monai.networks.layers.factories import Conv, Pool
from pydantic import Field, PositiveInt, model_validator
from torch import nn

from medseg.config.base import Spec
from medseg.errors import ConfigError
from medseg.model_output import Output
from medseg.models.layers.attention import AttentionGate
from medseg.models.layers.blocks import ActivationName, Layers, NormName, conv_stack, initialize, residual_stack
from medseg.models.layers.padding import crop_end, linear_mode, pad_end, padded_size, resize_linear
from medseg.task import Task

PerAxis = PositiveInt | tuple[PositiveInt, ...]  # one number for all axes, or one for each
PerLevel = tuple[PerAxis, ...]


class UNetConfig(Spec):
    """Encoder and decoder with skip connections (Ronneberger et al. 2015, arXiv:1505.04597; in 3D, Çiçek et
    al. 2016, arXiv:1606.06650). The defaults are nnU-Net's (Isensee et al. 2021,
    doi:10.1038/s41592-020-01008-z): strided convolutions, instance norm, leaky ReLU.

    Levels are counted from the full resolution, level 0, down.

    Attributes:
        channels: of each level; their number is the number of levels, at least 2.
        kernel: odd kernel widths: one number, or one entry a level (a number, or one number an axis).
        stride: from the level above to each level, in the same form, level 0 first. One number applies
            between levels and leaves level 0 at the full resolution; (1, (1, 2, 2), 2) keeps an axis.
        convs_per_level: convolutions of the encoder: one number, or one a level.
        decoder_convs: convolutions of the decoder: one number, or one a level (one fewer than the encoder
            has, level 0 first); None: as ``convs_per_level``.
        norm: kind of norm after each convolution.
        groups: groups of a ``group`` norm; they divide every number of channels.
        activation: kind of activation.
        up: ``transposed`` convolution with kernel = stride, or ``bilinear`` interpolation (trilinear in 3D)
            after a 1×1(×1) convolution.
        down: ``conv``: the level's first convolution has the stride; ``maxpool``: a pooling before it does.
        skip: how an encoder level joins its decoder level: ``concat``, ``add``, or not at all.
        attention: weigh each skip by a gate that the level below controls (Oktay et al. 2018,
            arXiv:1804.03999, who leave level 0's skip alone).
        residual: put a shortcut around the convolutions of each level (He et al. 2016, arXiv:1512.03385).
        dropout: probability of setting a channel to zero after each convolution.
        deep_supervision: number of extra heads, on decoder levels 1, 2, … (at most levels - 2).
    """

    name: Literal["unet"] = "unet"
    channels: tuple[PositiveInt, ...] = Field(default=(32, 64, 128, 256, 320), min_length=2)
    kernel: PositiveInt | PerLevel = 3
    stride: PositiveInt | PerLevel = 2
    convs_per_level: PositiveInt | tuple[PositiveInt, ...] = 2
    decoder_convs: PositiveInt | tuple[PositiveInt, ...] | None = None
    norm: NormName = "instance"
    groups: PositiveInt = 8
    activation: ActivationName = "leaky_relu"
    up: Literal["transposed", "bilinear"] = "transposed"
    down: Literal["conv", "maxpool"] = "conv"
    skip: Literal["concat", "add", "none"] = "concat"
    attention: bool = False
    residual: bool = False
    dropout: float = Field(default=0.0, ge=0, lt=1)
    deep_supervision: int = Field(default=0, ge=0)

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
        uneven = [count for count in self.channels if count % self.groups]
        if self.norm == "group" and uneven:
            raise ValueError(f"groups is {self.groups}, which does not divide channels {uneven}")
        if self.attention and self.skip == "none":
            raise ValueError("attention weighs skips, of which skip: none has none; set skip to concat or add")
        return self

    def kernels(self, spatial_dims: int) -> list[tuple[int, ...]]:
        """Kernel of each level, one width an axis. Raises: ConfigError if an entry has other axes."""
        values = self.kernel if isinstance(self.kernel, tuple) else (self.kernel,) * len(self.channels)
        return _per_axis("kernel", values, spatial_dims)

    def strides(self, spatial_dims: int) -> list[tuple[int, ...]]:
        """Stride into each level, one step an axis. Raises: ConfigError if an entry has other axes."""
        between = len(self.channels) - 1
        values = self.stride if isinstance(self.stride, tuple) else (1,) + (self.stride,) * between
        return _per_axis("stride", values, spatial_dims)

    def size_divisor(self, spatial_dims: int) -> tuple[int, ...]:
        """Total stride of each axis; sizes it divides need no padding. Raises: ConfigError, as above."""
        return _scales(self.strides(spatial_dims))[-1]

    def encoder_counts(self) -> tuple[int, ...]:
        """Convolutions of each encoder level."""
        counts = self.convs_per_level
        return counts if isinstance(counts, tuple) else (counts,) * len(self.channels)

    def decoder_counts(self) -> tuple[int, ...]:
        """Convolutions of each decoder level, level 0 first."""
        counts = self.encoder_counts()[:-1] if self.decoder_convs is None else self.decoder_convs
        return counts if isinstance(counts, tuple) else (counts,) * (len(self.channels) - 1)

    def build(self, task: Task) -> UNet:
        """The network for a task. Raises: ConfigError if a kernel or stride has other axes than the task."""
        return UNet(self, task)


class UNet(nn.Module):
    """The network of a ``UNetConfig``.

    Shapes: image (B, C, *S) float to logits (B, K, *S), for any S. The image is padded at its end, by
    repeating border voxels, to a multiple of ``size_divisor``, and the logits are cropped back.

    In training with deep supervision it returns an ``Output``. The deep logits of a decoder level are at that
    level's own size, S / stride, where its stride divides S. Where it does not, they are interpolated
    to S, so that a loss may always compare them with the target resampled to their size; choosing
    patch sizes that ``size_divisor`` divides saves that cost.

    ``encoder.0`` and ``decoder.0`` work at the finest level; ``head`` gives the logits, ``deep_heads.0``
    those of ``decoder.1``. Raises: ConfigError when built, as ``UNetConfig.build``; ValueError if the image
    has other axes or channels.
    """

    def __init__(self, config: UNetConfig, task: Task) -> None:
        super().__init__()
        layers = Layers(task.spatial_dims, config.norm, config.activation, config.groups, config.dropout)
        kernels, strides = config.kernels(task.spatial_dims), config.strides(task.spatial_dims)
        self.in_channels = task.in_channels
        self.spatial_dims = task.spatial_dims
        self.scales = _scales(strides)

        channels, counts = config.channels, config.decoder_counts()
        self.encoder = nn.ModuleList()
        inputs = task.in_channels
        for level, count in enumerate(config.encoder_counts()):
            pair = (inputs, channels[level])
            self.encoder.append(_encoder_level(config, layers, pair, kernels[level], strides[level], count))
            inputs = channels[level]
        self.decoder = nn.ModuleList()
        for level, count in enumerate(counts):
            pair = (channels[level + 1], channels[level])
            self.decoder.append(_decoder_level(config, layers, pair, kernels[level], strides[level + 1], count))
        self.head = layers.pointwise(channels[0], task.num_classes)
        self.deep_heads = nn.ModuleList(
            layers.pointwise(channels[level], task.num_classes)
            for level in range(1, config.deep_supervision + 1)
        )
        initialize(self)
        for module in self.modules():
            if isinstance(module, AttentionGate):
                module.open()

    @property
    def size_divisor(self) -> tuple[int, ...]:
        """Total stride of each axis; sizes it divides need no padding."""
        return self.scales[-1]

    def forward(self, image: torch.Tensor) -> torch.Tensor | Output:
        if image.ndim != self.spatial_dims + 2 or image.shape[1] != self.in_channels:
            raise ValueError(
                f"the network takes images (B, C, *S) with C = {self.in_channels} and {self.spatial_dims} "
                f"spatial axes; got shape {tuple(image.shape)}"
            )
        size = tuple(image.shape[2:])
        padded = padded_size(size, self.size_divisor)
        features = self._decode(self._encode(pad_end(image, padded)))
        logits = crop_end(resize_linear(self.head(features[0]), padded), size)
        if not (self.training and self.deep_heads):
            return logits
        return Output(logits, tuple(self._deep_logits(features, size, padded)))

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

    def _deep_logits(
        self, features: list[torch.Tensor], size: tuple[int, ...], padded: tuple[int, ...]
    ) -> list[torch.Tensor]:
        deep: list[torch.Tensor] = []
        for level, head in enumerate(self.deep_heads, start=1):
            logits, scale = head(features[level]), self.scales[level]
            if any(length % step for length, step in zip(size, scale, strict=True)):
                deep.append(crop_end(resize_linear(logits, padded), size))
            else:
                own = [length // step for length, step in zip(size, scale, strict=True)]
                deep.append(crop_end(logits, own))
        return deep


class DecoderLevel(nn.Module):
    """Bring the level below up to this level's size and channels, join the encoder's features (through the
    gate, where there is one), convolve.
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


def _encoder_level(
    config: UNetConfig,
    layers: Layers,
    channels: tuple[int, int],
    kernel: Sequence[int],
    stride: tuple[int, ...],
    count: int,
) -> nn.Module:
    stack = residual_stack if config.residual else conv_stack
    ones = (1,) * len(stride)
    if config.down == "conv" or stride == ones:
        return stack(layers, channels, kernel, stride, count)
    pool = Pool["max", layers.spatial_dims](kernel_size=stride, stride=stride)
    return nn.Sequential(pool, stack(layers, channels, kernel, ones, count))


def _decoder_level(
    config: UNetConfig,
    layers: Layers,
    channels: tuple[int, int],
    kernel: Sequence[int],
    stride: tuple[int, ...],
    count: int,
) -> DecoderLevel:
    below, own = channels
    if config.up == "transposed":
        up = Conv["convtrans", layers.spatial_dims](below, own, kernel_size=stride, stride=stride)
    else:  # a pointwise convolution commutes with interpolation and is cheaper before it
        grow = nn.Upsample(scale_factor=tuple(map(float, stride)), mode=linear_mode(layers.spatial_dims))
        up = nn.Sequential(layers.pointwise(below, own), grow)
    stack = residual_stack if config.residual else conv_stack
    joined = 2 * own if config.skip == "concat" else own
    convs = stack(layers, (joined, own), kernel, (1,) * len(stride), count)
    gate = AttentionGate(layers, own, below, stride) if config.attention else None
    return DecoderLevel(up, convs, config.skip, gate)


def _per_axis(field: str, values: PerLevel, spatial_dims: int) -> list[tuple[int, ...]]:
    full = [value if isinstance(value, tuple) else (value,) * spatial_dims for value in values]
    for level, value in enumerate(full):
        if len(value) != spatial_dims:
            raise ConfigError(
                f"model.{field}: level {level} has {len(value)} numbers {value}, but the task has "
                f"{spatial_dims} spatial axes; give one number, or one an axis"
            )
    return full


def _scales(strides: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Total stride of each level, level 0 first."""
    scales = [strides[0]]
    for stride in strides[1:]:
        scales.append(tuple(total * step for total, step in zip(scales[-1], stride, strict=True)))
    return scales
