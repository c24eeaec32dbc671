"""Options of inference."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from medseg.config.base import Spec
from medseg.inference.postprocessing import PostprocessConfig

Fraction = Annotated[float, Field(ge=0, lt=1)]
Blend = Literal["gaussian", "constant", "exact"]


class InferenceConfig(Spec):
    """The sliding window over whole cases.

    Attributes:
        roi_size: the window, voxels; none is the training's patch, and the whole image for published weights.
        overlap: share of a window its neighbor covers too.
        blend: how windows that overlap are averaged: ``gaussian`` weighs their middle most; ``exact`` averages
            nothing but takes from each what its border did not change (overlap-tile).
        batch_size: windows at once.
        flips: axes of the window that are mirrored too, in all combinations, scores averaged; labels that
            ``data.labels.pairs`` names are exchanged where the number of mirrored axes is odd.
        scales: for networks of two dimensions: sizes of the window, besides 1, that are averaged too.
        postprocess: what is done to the components of labels; ``medseg tune`` chooses it on validation cases.
        skip_below: windows in which no voxel of the scan is above this value are background, unseen.
        skip_above: so are windows whose voxels are above this value in all channels (a slide's bright glass);
            with both, windows in which every voxel is one or the other.
        large_above: millions of pixels from which pictures are read window by window and written row by row,
            where their format allows it; whole slides and OME-Zarr always are.
        level: of the pyramid of pictures that have one, 0 the finest; others than 0 are read window by window.
    """

    roi_size: tuple[Annotated[int, Field(gt=0)], ...] | None = None
    overlap: Fraction = 0.5
    blend: Blend = "gaussian"
    batch_size: int = Field(default=4, ge=1)
    flips: tuple[Annotated[int, Field(ge=0, le=2)], ...] = ()
    scales: tuple[Annotated[float, Field(ge=0.25, le=4)], ...] = ()
    skip_below: float | None = None
    skip_above: float | None = None
    large_above: float = Field(default=64.0, ge=0)
    level: int = Field(default=0, ge=0)
    postprocess: PostprocessConfig = PostprocessConfig()

    @field_validator("flips")
    @classmethod
    def _once(cls, axes: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(axes)) < len(axes):
            raise ValueError(f"an axis stands there twice: {list(axes)}")
        return axes
