"""``DenseNetwork``: what the segmentation networks on a backbone share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from medseg.model_output import Output
from medseg.models.backbones import Backbone, BackboneConfig
from medseg.models.layers.convolution import Parts, Steps, resize
from medseg.models.layers.padding import crop_end, pad_end
from medseg.task import Task


class DenseNetwork(nn.Module):
    """A network that scores an image on a coarse grid and interpolates the scores to the image's size.

    Subclasses give ``scores``. An image smaller than ``minimum_size`` is padded at its end, by repeating
    border voxels, and the logits are cropped back.

    Shapes: image (B, C, *S) to logits (B, K, *S), for any S; in training, with auxiliary or deep logits, an
    ``Output``. Raises: ValueError if the image has other axes or channels.

    Attributes:
        align_corners: how scores are interpolated.
        minimum_size: the smallest image that ``scores`` takes, one number an axis.
    """

    def __init__(self, task: Task, *, align_corners: bool = False) -> None:
        super().__init__()
        self.in_channels = task.in_channels
        self.spatial_dims = task.spatial_dims
        self.align_corners = align_corners
        self.minimum_size: Steps = (1,) * task.spatial_dims

    def scores(self, image: torch.Tensor) -> Output:
        """Logits on the network's own grids; auxiliary and deep ones in training only."""
        raise NotImplementedError(f"{type(self).__name__} has no scores")

    def padded_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """The size an image of ``size`` is padded to."""
        return tuple(max(pair) for pair in zip(size, self.minimum_size, strict=True))

    def forward(self, image: torch.Tensor) -> torch.Tensor | Output:
        check_image(image, self.in_channels, self.spatial_dims)
        size = tuple(image.shape[2:])
        padded = self.padded_size(size)
        logits, deep, aux = self.scores(pad_end(image, padded))
        logits = self._fit(logits, padded, size)
        if not self.training or (aux is None and not deep):
            return logits
        if padded != size:  # a coarse grid covers the padding too
            deep = tuple(self._fit(scores, padded, size) for scores in deep)
        return Output(logits, deep, None if aux is None else self._fit(aux, padded, size))

    def _fit(self, scores: torch.Tensor, padded: tuple[int, ...], size: tuple[int, ...]) -> torch.Tensor:
        return crop_end(resize(scores, padded, align_corners=self.align_corners), size)


class BackboneNetwork(DenseNetwork):
    """A ``DenseNetwork`` with a ``backbone``; heads are made with ``parts``, the backbone's kind of norm."""

    def __init__(
        self,
        task: Task,
        backbone: BackboneConfig,
        output_stride: int | None = None,
        *,
        align_corners: bool = False,
    ) -> None:
        super().__init__(task, align_corners=align_corners)
        self.parts = Parts(task.spatial_dims, backbone.norm or "batch", backbone.norm_groups)
        self.backbone: Backbone = backbone.build(task.spatial_dims, task.in_channels, output_stride)
        self.minimum_size = self.backbone.minimum_size


def check_image(image: torch.Tensor, in_channels: int, spatial_dims: int) -> None:
    """Raise ValueError if ``image`` is not (B, ``in_channels``, *S) with ``spatial_dims`` spatial axes."""
    if image.ndim != spatial_dims + 2 or image.shape[1] != in_channels:
        raise ValueError(
            f"the network takes images (B, C, *S) with C = {in_channels} and {spatial_dims} spatial axes; got "
            f"shape {tuple(image.shape)}"
        )


def fcn_head(parts: Parts, inputs: int, channels: int, classes: int, *, dropout: float = 0.1) -> nn.Sequential:
    """3×3 convolution, norm, rectifier, dropout, 1×1 convolution with bias, under the names 0 to 4.

    The head of an FCN on a dilated backbone, and everyone's auxiliary head.
    """
    return nn.Sequential(
        *parts.unit(inputs, channels, 3), nn.Dropout(dropout), parts.conv(channels, classes, bias=True)
    )
