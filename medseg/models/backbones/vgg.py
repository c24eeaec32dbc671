"""VGG in 2D and 3D, plain and dilated."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import nn

from medseg.config.base import Spec
from medseg.models.backbones.common import Backbone, plan_stages, scale_channels
from medseg.models.layers.axes import PerAxis, multiply, resolve_per_axis
from medseg.models.layers.factory import LayerFactory, set_stride_and_dilation
from medseg.models.layers.initialization import initialize_fan_out
from medseg.models.layers.norms import NormName

_CONVS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_CHANNELS = (64, 128, 256, 512, 512)


class VGGConfig(Spec):
    """VGG's convolutions (Simonyan and Zisserman 2015, arXiv:1409.1556), with torchvision's state-dict keys.

    Feature maps: those of the five levels before their pooling, then that after the last pooling.

    Attributes:
        depth: number of layers with weights, including the three of the classifier.
        norm: kind of norm after each convolution; None: no norm, as in the paper.
        norm_groups: maximum number of groups of a ``group`` norm.
        width: factor on all channels; 1 as in the paper.
        pool_strides: of the five poolings: a number, or one per axis.
        pool_kernel: 2 (the paper), or 3 with padding (DeepLab). Where ``output_stride`` turns a pooling's
            stride into a dilation, it is 3.
        ceil_pool: round pooled sizes up (Caffe).
        checkpointing: see ``BackboneSpec``.
    """

    name: Literal["vgg"] = "vgg"
    depth: Literal[11, 13, 16, 19] = 16
    norm: NormName | None = None
    norm_groups: PositiveInt = 32
    width: PositiveFloat = 1.0
    pool_strides: tuple[PerAxis, PerAxis, PerAxis, PerAxis, PerAxis] = (2, 2, 2, 2, 2)
    pool_kernel: Literal[2, 3] = 2
    ceil_pool: bool = False
    checkpointing: bool = False

    def build(self, spatial_dims: int, in_channels: int, output_stride: int | None = None) -> VGG:
        """The backbone. Raises: ConfigError if a stride has other axes than the task."""
        return VGG(self, spatial_dims, in_channels, output_stride)


class VGG(Backbone):
    """VGG; see ``VGGConfig`` and ``Backbone``. Raises: ValueError if an image is too small."""

    def __init__(
        self, config: VGGConfig, spatial_dims: int, in_channels: int, output_stride: int | None
    ) -> None:
        super().__init__()
        self.config = config
        self.checkpointing = config.checkpointing
        self._layers = LayerFactory(spatial_dims, config.norm or "batch", config.norm_groups)
        self._strides = [
            resolve_per_axis("backbone.pool_strides", value, spatial_dims) for value in config.pool_strides
        ]
        self.features = nn.Sequential()
        self._levels: list[tuple[int, int]] = []  # indices of the first layer of each level and of its pooling
        counts = [scale_channels(count, config.width) for count in _CHANNELS]
        inputs = in_channels
        for convs, outputs in zip(_CONVS[config.depth], counts, strict=True):
            first = len(self.features)
            for _ in range(convs):
                self.features.extend(self._unit(inputs, outputs))
                inputs = outputs
            self.features.append(nn.Identity())  # the pooling, set below
            self._levels.append((first, len(self.features) - 1))
        self.channels = (*counts, counts[-1])
        self.set_output_stride(output_stride)
        initialize_fan_out(self)

    def set_output_stride(self, output_stride: int | None) -> None:
        ones = (1,) * self._layers.spatial_dims
        plan = plan_stages(ones, self._strides, output_stride)
        self.strides = (ones, *(stage.total for stage in plan))
        self.minimum_size = ones
        for (first, pool), stage, wanted in zip(self._levels, plan, self._strides, strict=True):
            for layer in list(self.features)[first:pool]:
                if isinstance(layer, nn.Conv2d | nn.Conv3d):
                    set_stride_and_dilation(layer, ones, stage.previous)
            kernel = self.config.pool_kernel if stage.stride == wanted else 3
            self.features[pool] = self._layers.max_pool(kernel, stage.stride, ceil=self.config.ceil_pool)
            if kernel == 2 and not self.config.ceil_pool:
                self.minimum_size = multiply(self.minimum_size, stage.stride)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        self.check_size(image)
        features: list[torch.Tensor] = []
        x = image
        for level, (first, pool) in enumerate(self._levels):
            x = self.run(self.features[first:pool], x)
            features.append(x)
            x = self.pooled(level, x)
        return [*features, x]

    def pooled(self, level: int, feature: torch.Tensor) -> torch.Tensor:
        """Return a level's feature map after the level's pooling."""
        return self.features[self._levels[level][1]](feature)

    def _unit(self, inputs: int, outputs: int) -> list[nn.Module]:
        conv = self._layers.conv(inputs, outputs, 3, bias=True)
        norm = [] if self.config.norm is None else [self._layers.normalization(outputs)]
        return [conv, *norm, nn.ReLU(inplace=True)]
