"""What is known of an nnU-Net model beside its weights."""

from __future__ import annotations

from importlib.metadata import version
from typing import Literal

from pydantic import Field

from medseg.config.base import Spec
from medseg.data.labels.schema import LabelSchema

FORMAT_VERSION = 1

Widths = tuple[int, ...]
"""One number an axis."""


class Architecture(Spec):
    """A plain U-Net, or one with a residual encoder.

    Attributes:
        kind: ``plain``; ``residual``: a stem, then blocks as of ResNet-D (He et al. 2019, arXiv:1812.01187).
        features: channels of each stage, the finest first.
        kernels, strides: of each stage; the first stage's stride is usually 1.
        blocks: convolutions (or residual blocks) of each encoder stage.
        decoder_convs: convolutions of each decoder stage, the coarsest first.
        bias: whether convolutions have one.
        norm: after each convolution.
        epsilon: of the norm.
        affine: whether the norm scales and shifts.
        activation, slope: ``slope`` is that of a leaky rectifier.
        activation_first: before the norm.
        stem: channels of a residual encoder's stem.
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
    """How one channel's intensities are scaled.

    Attributes:
        scheme: nnU-Net's: ``ct`` clips to ``low`` and ``high`` and standardizes with ``mean`` and ``std``;
            ``zscore`` standardizes each scan; ``range`` brings it to 0…1; ``rgb`` divides by 255.
        masked: ``zscore`` looks at, and changes, the voxels within the non-zero mask alone.
    """

    scheme: Literal["ct", "zscore", "range", "rgb", "none"]
    masked: bool = False
    low: float = 0.0
    high: float = 0.0
    mean: float = 0.0
    std: float = 0.0


class Resampling(Spec):
    """How voxels are interpolated between two grids.

    Attributes:
        method: ``spline``: scikit-image's, per channel, in double precision; ``torch``: linear.
        order: of the spline; across slices that are resampled by themselves it is 0.
        separate: slices by themselves always, never, or (none) where one axis is more than ``threshold``
            times as coarse as the finest.
    """

    method: Literal["spline", "torch"] = "spline"
    order: int = Field(default=3, ge=0, le=5)
    separate: bool | None = None
    threshold: float = 3.0


class Stage(Spec):
    """One configuration: a network, and how images come to it. Axes are those after ``transpose``.

    Attributes:
        configuration: its name in the plans, such as ``3d_fullres``.
        folds: names of the trained networks, whose logits are averaged.
        spatial_dims: 2: each slice along the first axis by itself.
        channels: of the image.
        previous_labels: values of the previous stage's label map that are channels too, one each.
        classes: channels of the logits.
        reader: ``native``: the file's own axes; ``ras``: turned to right, anterior, superior; ``picture``.
        transpose: which of the axes Z, Y, X comes first, second, third.
        spacing: of the network's grid, mm; two numbers leave the first axis as it is.
        patch_size: the window.
        mirror_axes: axes of the window it was trained mirrored along.
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
    """What a file of an imported nnU-Net model says about its weights.

    Attributes:
        labels: what it finds.
        painted: for regions: the value each is painted with, one after another.
        stages: of a cascade the previous one first; else just one.
        trainer, plans, dataset: names, as nnU-Net has them.
    """

    format: Literal["medseg-nnunet"] = "medseg-nnunet"
    format_version: int = FORMAT_VERSION
    medseg_version: str = Field(default_factory=lambda: version("medseg"))
    labels: LabelSchema
    painted: tuple[int, ...] = ()
    stages: tuple[Stage, ...] = Field(min_length=1)
    trainer: str
    plans: str
    dataset: str = ""
