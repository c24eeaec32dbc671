"""The U-Nets of nnU-Net, with the parameter names of its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv, Pool
from torch import nn

from medseg.interop.nnunet.header import Architecture, Widths
from medseg.models.layers.norms import BatchNorm, InstanceNorm


class NnunetUNet(nn.Module):
    """U-Net of an ``Architecture``: maps images (B, C, *S) to logits (B, K, *S).

    ``S`` must be a multiple of the total stride. The heads of the coarser decoder stages are used in training
    only; they exist so that checkpoints load completely.

    Args:
        config: the architecture.
        channels: number of input channels C.
        classes: number of output channels K.
    """

    def __init__(self, config: Architecture, channels: int, classes: int) -> None:
        super().__init__()
        self.encoder = _Encoder(config, channels)
        self.decoder = _Decoder(config, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(image))


class _Unit(nn.Module):
    """Convolution, norm, activation."""

    def __init__(
        self,
        config: Architecture,
        channels: tuple[int, int],
        kernel: Widths,
        stride: Widths,
        *,
        bias: bool,
        activated: bool = True,
    ) -> None:
        super().__init__()
        padding = tuple((width - 1) // 2 for width in kernel)
        self.conv = Conv["conv", len(kernel)](
            *channels, kernel_size=kernel, stride=stride, padding=padding, bias=bias
        )
        if config.norm != "none":
            self.norm = _norm(config, channels[1])
        if activated and config.activation != "none":
            self.nonlin = _activation(config)
        names = ("conv", "nonlin", "norm") if config.activation_first else ("conv", "norm", "nonlin")
        self.order = [name for name in names if hasattr(self, name)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name in self.order:
            x = getattr(self, name)(x)
        return x


class _Stack(nn.Module):
    """A sequence of units; the first one changes the number of channels and has the stride."""

    def __init__(
        self, config: Architecture, channels: tuple[int, int], kernel: Widths, stride: Widths, count: int
    ) -> None:
        super().__init__()
        inputs, outputs = channels
        self.convs = nn.Sequential()
        for _ in range(count):
            self.convs.append(_Unit(config, (inputs, outputs), kernel, stride, bias=config.bias))
            inputs, stride = outputs, (1,) * len(kernel)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convs(x)


class _Block(nn.Module):
    """activate(conv2(conv1(x)) + skip(x)); the skip pools, then projects (He et al. 2019, figure 2c)."""

    def __init__(self, config: Architecture, channels: tuple[int, int], kernel: Widths, stride: Widths) -> None:
        super().__init__()
        ones = (1,) * len(kernel)
        inputs, outputs = channels
        self.conv1 = _Unit(config, channels, kernel, stride, bias=config.bias)
        self.conv2 = _Unit(config, (outputs, outputs), kernel, ones, bias=config.bias, activated=False)
        self.nonlin2 = nn.Identity() if config.activation == "none" else _activation(config)
        self.skip = nn.Sequential()
        if stride != ones:
            self.skip.append(Pool["avg", len(kernel)](stride, stride))
        if inputs != outputs:
            self.skip.append(_Unit(config, channels, ones, ones, bias=False, activated=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.nonlin2(self.conv2(self.conv1(x)) + self.skip(x))


class _Blocks(nn.Module):
    """A sequence of residual blocks."""

    def __init__(
        self, config: Architecture, channels: tuple[int, int], kernel: Widths, stride: Widths, count: int
    ) -> None:
        super().__init__()
        inputs, outputs = channels
        self.blocks = nn.Sequential()
        for _ in range(count):
            self.blocks.append(_Block(config, (inputs, outputs), kernel, stride))
            inputs, stride = outputs, (1,) * len(kernel)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(x)


class _Encoder(nn.Module):
    def __init__(self, config: Architecture, channels: int) -> None:
        super().__init__()
        inputs = channels
        if config.kind == "residual":
            inputs = config.stem or config.features[0]
            ones = (1,) * len(config.kernels[0])
            self.stem = _Stack(config, (channels, inputs), config.kernels[0], ones, 1)
        self.stages = nn.Sequential()
        for i, outputs in enumerate(config.features):
            arguments = ((inputs, outputs), config.kernels[i], config.strides[i], config.blocks[i])
            residual = config.kind == "residual"
            self.stages.append(
                _Blocks(config, *arguments) if residual else nn.Sequential(_Stack(config, *arguments))
            )
            inputs = outputs

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Compute the features of each stage, finest first."""
        if hasattr(self, "stem"):
            x = self.stem(x)
        features: list[torch.Tensor] = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class _Decoder(nn.Module):
    def __init__(self, config: Architecture, classes: int) -> None:
        super().__init__()
        self.stages, self.transpconvs, self.seg_layers = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        dims = len(config.kernels[0])
        for i, count in enumerate(config.decoder_convs):
            level = len(config.features) - 2 - i
            below, own = config.features[level + 1], config.features[level]
            stride, ones = config.strides[level + 1], (1,) * dims
            up = Conv["convtrans", dims](below, own, kernel_size=stride, stride=stride, bias=config.bias)
            self.transpconvs.append(up)
            self.stages.append(_Stack(config, (2 * own, own), config.kernels[level], ones, count))
            self.seg_layers.append(Conv["conv", dims](own, classes, kernel_size=1))

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        x = features[-1]
        for i, (up, stage) in enumerate(zip(self.transpconvs, self.stages, strict=True)):
            x = stage(torch.cat([up(x), features[-(i + 2)]], dim=1))
        return self.seg_layers[-1](x)


def _norm(config: Architecture, channels: int) -> nn.Module:
    kind = BatchNorm if config.norm == "batch" else InstanceNorm
    return kind(channels, eps=config.epsilon, affine=config.affine)


def _activation(config: Architecture) -> nn.Module:
    return nn.ReLU(inplace=True) if config.activation == "relu" else nn.LeakyReLU(config.slope, inplace=True)
