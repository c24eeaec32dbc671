"""Header of an imported nnU-Net model: everything but the weights."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medseg.config.base import Spec
from medseg.data.labels.schema import LabelSchema
from medseg.system.version import medseg_version

FORMAT_VERSION = 1

Widths = tuple[int, ...]
"""One number per axis."""


class Architecture(Spec):
    """A U-Net with a plain or a residual encoder.

    Attributes:
        kind: ``plain``, or ``residual``: a stem and blocks of ResNet-D (He et al. 2019, arXiv:1812.01187).
        features: number of channels of each stage, finest first.
        kernels: kernel size of each stage.
        strides: stride of each stage; usually 1 in the first stage.
        blocks: number of convolutions (or residual blocks) of each encoder stage.
        decoder_convs: number of convolutions of each decoder stage, coarsest first.
        bias: whether convolutions have a bias.
        norm: normalization after each convolution.
        epsilon: epsilon of the normalization.
        affine: whether the normalization has scale and shift.
        activation: activation function.
        slope: negative slope of a leaky ReLU.
        activation_first: whether the activation precedes the normalization.
        stem: number of channels of the stem of a residual encoder.
    """

    kind: Literal["plain", "residual"]
    features: tuple[int, ...] = Field(min_length=2)
    kernels: tuple[Widths, ...]
    strides: tuple[Widths, ...]
    blocks: tuple[int, ...]
    decoder_convs: tuple[int, ...]
    bias: bool = False
    norm: Literal["instance", "batch", "none"] = "instance"
    epsilon: float = 1e-5
    affine: bool = True
    activation: Literal["leaky_relu", "relu", "none"] = "leaky_relu"
    slope: float = 0.01
    activation_first: bool = False
    stem: int | None = None


class Normalization(Spec):
    """Intensity normalization of one channel.

    Attributes:
        scheme: scheme of nnU-Net: ``ct`` clips to ``low`` and ``high`` and standardizes with ``mean`` and
            ``std``; ``zscore`` standardizes each scan; ``range`` scales to 0…1; ``rgb`` divides by 255.
        masked: whether ``zscore`` uses and changes only the voxels within the non-zero mask.
        low: lower bound of ``ct``.
        high: upper bound of ``ct``.
        mean: mean of ``ct``.
        std: standard deviation of ``ct``.
    """

    scheme: Literal["ct", "zscore", "range", "rgb", "none"]
    masked: bool = False
    low: float = 0.0
    high: float = 0.0
    mean: float = 0.0
    std: float = 0.0


class Resampling(Spec):
    """Interpolation between two grids.

    Attributes:
        method: ``spline``: splines of scikit-image, per channel, in double precision; ``torch``: linear.
        order: order of the spline; 0 across slices that are resampled separately.
        separate: whether slices are resampled separately; if None, where one axis is more than ``threshold``
            times as coarse as the finest.
        threshold: see ``separate``.
    """

    method: Literal["spline", "torch"] = "spline"
    order: int = Field(default=3, ge=0, le=5)
    separate: bool | None = None
    threshold: float = 3.0


class Stage(Spec):
    """One configuration: a network and its preprocessing. Axes are those after ``transpose``.

    Attributes:
        configuration: name in the plans, such as ``3d_fullres``.
        folds: names of the trained networks, whose logits are averaged.
        spatial_dims: with 2, each slice along the first axis is processed separately.
        channels: number of channels of the image.
        previous_labels: label values of the previous stage that are additional channels, one each.
        classes: number of channels of the logits.
        reader: ``native``: axes of the file; ``ras``: reoriented to right, anterior, superior; ``picture``.
        transpose: which of the axes Z, Y, X comes first, second and third.
        spacing: spacing of the network's grid, mm; with two numbers the first axis is not resampled.
        patch_size: window size.
        normalize: normalization of each channel.
        resample_image: interpolation of images.
        resample_labels: interpolation of the previous stage's labels.
        resample_logits: interpolation of logits.
        mirror_axes: axes of the window along which the training mirrored.
        architecture: the network.
    """

    configuration: str
    folds: tuple[str, ...] = Field(min_length=1)
    spatial_dims: Literal[2, 3]
    channels: int = Field(ge=1)
    previous_labels: tuple[int, ...] = ()
    classes: int = Field(ge=1)
    reader: Literal["native", "ras", "picture"]
    transpose: tuple[int, int, int]
    spacing: tuple[float, ...] = Field(min_length=2, max_length=3)
    patch_size: tuple[int, ...] = Field(min_length=2, max_length=3)
    normalize: tuple[Normalization, ...]
    resample_image: Resampling
    resample_labels: Resampling
    resample_logits: Resampling
    mirror_axes: tuple[int, ...] = ()
    architecture: Architecture


class NnunetHeader(Spec):
    """Header of the file of an imported nnU-Net model.

    Attributes:
        format: identifies the file format.
        format_version: version of the file format.
        medseg_version: version of medseg that wrote the file.
        labels: labels of the model.
        painted: label value of each region; later regions overwrite earlier ones. Empty without regions.
        stages: one stage; for a cascade two, the previous one first.
        trainer: name of the trainer.
        plans: name of the plans.
        dataset: name of the dataset.
    """

    format: Literal["medseg-nnunet"] = "medseg-nnunet"
    format_version: int = FORMAT_VERSION
    medseg_version: str = Field(default_factory=medseg_version)
    labels: LabelSchema
    painted: tuple[int, ...] = ()
    stages: tuple[Stage, ...] = Field(min_length=1)
    trainer: str
    plans: str
    dataset: str = ""
