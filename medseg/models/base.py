"""Base classes of the architectures: ``ArchitectureConfig``, ``SegmentationNetwork``, ``BackboneNetwork``.

``CustomModelConfig`` describes a network that is passed from Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import nn

from medseg.config.base import Spec
from medseg.errors import ModelFileError
from medseg.model_output import Output
from medseg.models.backbones import Backbone, BackboneConfig
from medseg.models.layers.axes import AxisTuple
from medseg.models.layers.factory import LayerFactory
from medseg.models.layers.padding import crop_end, pad_end, resize_linear
from medseg.task import Task


class ArchitectureConfig(Spec):
    """Base class of the settings of an architecture.

    A subclass has a literal ``name``, by which a configuration selects it, its settings with defaults, and
    ``build``. The union ``medseg.models.ModelConfig`` lists the subclasses.

    Attributes:
        paper: the publication (authors, year, arXiv id or DOI), or a description if there is none.
    """

    paper: ClassVar[str] = ""

    def build(self, task: Task) -> nn.Module:
        """Build the network for a task.

        Raises:
            ConfigError: if the settings do not fit the task.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement build")


class CustomModelConfig(ArchitectureConfig):
    """A network given as ``fit(config, model=my_module)``.

    Attributes:
        class_name: qualified name of the module's class, for the record and for messages.
    """

    name: Literal["custom"] = "custom"
    class_name: str

    def build(self, task: Task) -> nn.Module:
        """Raise an error: no code is run from a configuration or a model file.

        Raises:
            ModelFileError: always.
        """
        raise ModelFileError(
            f"the network is the custom class {self.class_name}, which cannot be built from a file",
            hint="Construct it in Python and pass it: Predictor(file, model=my_module) to predict, "
            "fit(config, model=my_module) to train.",
        )


class SegmentationNetwork(nn.Module):
    """Base class of the networks: accepts images of any size and returns logits at the image's size.

    A subclass computes logits on a grid of its own in ``raw_logits`` and states the sizes it accepts in
    ``padded_size``. The base class checks the image, pads it at its end by repeating border voxels,
    interpolates the logits to the padded size and crops them to the image's size.

    Shapes: image (B, C, *S) to logits (B, K, *S), for any S; in training, an ``Output`` if there are deep or
    auxiliary logits.

    Args:
        task: number of spatial axes, image channels and classes.
        align_corners: how logits are interpolated; see ``torch.nn.functional.interpolate``.

    Attributes:
        minimum_size: the smallest image that ``raw_logits`` accepts, one number per axis.

    Raises:
        ValueError: when called with an image that has another number of axes or channels.
    """

    def __init__(self, task: Task, *, align_corners: bool = False) -> None:
        super().__init__()
        self.in_channels = task.in_channels
        self.spatial_dims = task.spatial_dims
        self.align_corners = align_corners
        self.minimum_size: AxisTuple = (1,) * task.spatial_dims

    def raw_logits(self, image: torch.Tensor) -> Output:
        """Compute the logits of a padded image on the network's own grids.

        Deep and auxiliary logits are computed in training only.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement raw_logits")

    def padded_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return the size to which an image of ``size`` is padded."""
        return tuple(max(pair) for pair in zip(size, self.minimum_size, strict=True))

    def forward(self, image: torch.Tensor) -> torch.Tensor | Output:
        self.check_image(image)
        size = tuple(image.shape[2:])
        padded = self.padded_size(size)
        logits, deep, aux = self.raw_logits(pad_end(image, padded))
        logits = self.fit_logits(logits, padded, size)
        if not self.training or (aux is None and not deep):
            return logits
        deep = self.fit_deep_logits(deep, padded, size)
        return Output(logits, deep, None if aux is None else self.fit_logits(aux, padded, size))

    def check_image(self, image: torch.Tensor) -> None:
        """Raise ValueError if ``image`` is not (B, C, *S) with the task's channels and spatial axes."""
        if image.ndim != self.spatial_dims + 2 or image.shape[1] != self.in_channels:
            raise ValueError(
                f"expected an image (B, C, *S) with C = {self.in_channels} and {self.spatial_dims} spatial "
                f"axes; got shape {tuple(image.shape)}"
            )

    def fit_logits(self, logits: torch.Tensor, padded: tuple[int, ...], size: tuple[int, ...]) -> torch.Tensor:
        """Interpolate logits to the padded image's size and crop them to the image's size."""
        return crop_end(resize_linear(logits, padded, align_corners=self.align_corners), size)

    def fit_deep_logits(
        self, deep: tuple[torch.Tensor, ...], padded: tuple[int, ...], size: tuple[int, ...]
    ) -> tuple[torch.Tensor, ...]:
        """Bring deep logits to grids that cover the image without its padding.

        Without padding they keep their own sizes.
        """
        if padded == size:
            return deep
        return tuple(self.fit_logits(logits, padded, size) for logits in deep)


class BackboneNetwork(SegmentationNetwork):
    """Base class of the networks on a backbone.

    Args:
        task: number of spatial axes, image channels and classes.
        backbone: settings of the backbone.
        output_stride: where the backbone's strides become dilations; None: nowhere.
        align_corners: how logits are interpolated.

    Attributes:
        backbone: the built backbone.
        layers: creates the layers of the head, with the backbone's kind of norm.
    """

    def __init__(
        self,
        task: Task,
        backbone: BackboneConfig,
        output_stride: int | None = None,
        *,
        align_corners: bool = False,
    ) -> None:
        super().__init__(task, align_corners=align_corners)
        self.layers = LayerFactory(task.spatial_dims, backbone.norm or "batch", backbone.norm_groups)
        self.backbone: Backbone = backbone.build(task.spatial_dims, task.in_channels, output_stride)
        self.minimum_size = self.backbone.minimum_size


def fcn_head(
    layers: LayerFactory, inputs: int, channels: int, classes: int, *, dropout: float = 0.1
) -> nn.Sequential:
    """Create the head of an FCN on a dilated backbone, which also serves as auxiliary head.

    It consists of a 3×3 convolution, norm, activation, dropout, and a 1×1 convolution with bias, with
    state-dict keys 0 to 4.
    """
    return nn.Sequential(
        *layers.conv_unit(inputs, channels, 3), nn.Dropout(dropout), layers.pointwise(channels, classes)
    )
