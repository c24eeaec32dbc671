"""Configuration of inference: sliding window, averaging and postprocessing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from medseg.config.base import Spec
from medseg.inference.postprocessing import PostprocessConfig
from medseg.instances.options import InstanceDecoding

Fraction = Annotated[float, Field(ge=0, lt=1)]
Blend = Literal["gaussian", "constant", "exact"]


class InferenceConfig(Spec):
    """Options of sliding-window inference over whole cases.

    Attributes:
        roi_size: window size in voxels. Default: the patch size of the training; for published weights, the
            whole image.
        max_roi_size: if given, windows are as large as the image, rounded up to multiples of 32 and at most of
            this size, instead of ``roi_size``. Instance norm then sees the objects of the whole image: in a
            small window without objects it amplifies the noise. Default: None.
        overlap: fraction of a window that the next window covers too, 0 to below 1. Default: 0.5.
        blend: how overlapping windows are combined. ``gaussian`` and ``constant`` average them, with Gaussian
            or equal weights; ``exact`` does not average, but takes from each window the voxels that its border
            does not affect (overlap-tile). Default: ``gaussian``.
        batch_size: number of windows per batch. Default: 4.
        flips: array axes along which windows are mirrored for test-time augmentation. All combinations are
            averaged; labels of ``data.labels.pairs`` are swapped if the number of mirrored axes is odd.
            Default: none.
        scales: scale factors for test-time augmentation of 2D networks, averaged with scale 1. Default: none.
        border: what a window contains beyond the border of an image that is smaller: ``zeros``, or the image
            mirrored at its border (``reflect``). Default: as the patches of the training
            (``sampling.border``).
        skip_below: windows in which no voxel of the scan exceeds this value are skipped and labeled background.
            If None, no windows are skipped.
        skip_above: windows in which every voxel exceeds this value in all channels are skipped and labeled
            background, such as the bright glass of slides. If ``skip_below`` is set too, windows in which every
            voxel meets one of the two conditions are skipped. If None, no windows are skipped.
        large_above: size in megapixels above which images are read window by window and written row by row, if
            their format allows it. Whole slides and OME-Zarr are always processed this way. Default: 64.
        level: resolution level of image pyramids; 0 is the finest. Levels other than 0 are read window by
            window. Default: 0.
        rescale: for pictures without spacing, the factor by which a picture is resized before it is segmented;
            the result has the picture's own size. ``auto`` estimates it from the sizes of the predicted
            objects. Default: pictures are not resized.
        object_size: for pictures without spacing, the diameter of their objects in pixels: the picture is
            resized so that they have the median size of the training's objects. ``auto`` is ``rescale=auto``.
            Default: unknown.
        thresholds: probability above which a region is present, or the only label beside the background, by
            name. Default: 0.5.
        postprocess: steps applied to the connected components of labels, described below. ``medseg tune``
            chooses them on the validation cases. Default: no steps.
        instances: thresholds of decoding objects, for models that tell them apart.
    """

    roi_size: tuple[Annotated[int, Field(gt=0)], ...] | None = None
    max_roi_size: tuple[Annotated[int, Field(gt=0)], ...] | None = None
    overlap: Fraction = 0.5
    blend: Blend = "gaussian"
    batch_size: int = Field(default=4, ge=1)
    flips: tuple[Annotated[int, Field(ge=0, le=2)], ...] = ()
    scales: tuple[Annotated[float, Field(ge=0.25, le=4)], ...] = ()
    border: Literal["zeros", "reflect"] | None = None
    skip_below: float | None = None
    skip_above: float | None = None
    large_above: float = Field(default=64.0, ge=0)
    level: int = Field(default=0, ge=0)
    rescale: Literal["auto"] | Annotated[float, Field(ge=0.05, le=20)] | None = None
    object_size: Literal["auto"] | Annotated[float, Field(gt=0)] | None = None
    thresholds: dict[str, Annotated[float, Field(gt=0, lt=1)]] = Field(default_factory=dict)
    postprocess: PostprocessConfig = PostprocessConfig()
    instances: InstanceDecoding = InstanceDecoding()

    @property
    def skips_windows(self) -> bool:
        """Whether windows are skipped by their intensities."""
        return self.skip_below is not None or self.skip_above is not None

    @model_validator(mode="after")
    def _check_one_scale(self) -> InferenceConfig:
        if self.rescale is not None and self.object_size is not None:
            raise ValueError("rescale and object_size both resize pictures; set one of them")
        return self

    @field_validator("flips")
    @classmethod
    def _check_distinct(cls, axes: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(axes)) < len(axes):
            raise ValueError(f"an axis appears twice: {list(axes)}")
        return axes
