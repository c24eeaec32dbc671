"""Feature pyramid of the detectors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from medseg.config.base import Spec
from medseg.models.fpn import merge_top_down
from medseg.models.layers.factory import LayerFactory
from medseg.models.layers.norms import NormName


class LayerOptions(Spec):
    """Channels and norm of the layers of a pyramid or head.

    Attributes:
        channels: of every feature map.
        norm: kind of norm after each convolution; None: convolutions have a bias and no norm.
        norm_groups: maximum number of groups of a ``group`` norm.
    """

    channels: int = 256
    norm: NormName | None = None
    norm_groups: int = 32

    def layers(self, spatial_dims: int) -> LayerFactory:
        """Return the factory of these layers."""
        return LayerFactory(spatial_dims, self.norm or "batch", self.norm_groups)

    def conv(
        self, layers: LayerFactory, inputs: int, kernel: int = 1, *, activate: bool = True
    ) -> nn.Sequential:
        """Create a convolution to ``channels``, with its norm and activation, of keys 0 and 1."""
        parts = [layers.conv(inputs, self.channels, kernel, bias=self.norm is None)]
        if self.norm is not None:
            parts.append(layers.normalization(self.channels))
        if activate:
            parts.append(layers.activate())
        return nn.Sequential(*parts)


class FeaturePyramid(nn.Module):
    """Feature pyramid network (Lin et al. 2017, arXiv:1612.03144): maps of equal channels, finest first.

    Shapes: backbone features ``[(B, C_i, *S_i), …]`` to ``[(B, C, *S_i), …]``; with ``extra``, one more map
    that takes every second voxel of the coarsest one.

    Args:
        inputs: channels of the backbone's feature maps, finest first.
        options: channels and norm.
        spatial_dims: 2 or 3.
        extra: whether to append a coarser map.
    """

    def __init__(
        self, inputs: Sequence[int], options: LayerOptions, spatial_dims: int, *, extra: bool = True
    ) -> None:
        super().__init__()
        layers = options.layers(spatial_dims)
        self.extra = extra
        self.lateral = nn.ModuleList(options.conv(layers, count, activate=False) for count in inputs)
        self.smooth = nn.ModuleList(options.conv(layers, options.channels, 3, activate=False) for _ in inputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        laterals = [conv(x) for conv, x in zip(self.lateral, features, strict=True)]
        merged = merge_top_down(laterals[::-1])[::-1]
        pyramid = [conv(x) for conv, x in zip(self.smooth, merged, strict=True)]
        if self.extra:
            pyramid.append(pyramid[-1][(..., *(slice(None, None, 2),) * (features[0].ndim - 2))])
        return pyramid
