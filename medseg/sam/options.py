"""Options of prompting with a SAM."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medseg.config.base import Spec


class PropagationOptions(Spec):
    """How a mask is propagated from slice to slice of a volume.

    Attributes:
        by: what of a mask prompts the next slice: its box, its deepest point, or both.
        mask: whether the mask itself is a prompt, too.
        min_iou: predicted intersection over union below which it stops.
        max_drop: it also stops if the predicted intersection over union falls by more than this below that of
            the slice it started from.
        min_overlap: it also stops if the intersection over union of a mask and the previous one is lower.
    """

    by: Literal["box", "points", "box_points"] = "box_points"
    mask: bool = True
    min_iou: float = Field(default=0.5, ge=0, le=1)
    max_drop: float = Field(default=0.3, ge=0, le=1)
    min_overlap: float = Field(default=0.2, ge=0, le=1)


class SamOptions(Spec):
    """How scans are shown to a SAM and prompted.

    Attributes:
        window: values that become black and white; None: 8-bit pictures are kept, other pictures are scaled
            from their smallest to their largest value, volumes from the 0.5 to the 99.5 percentile of the
            voxels that are not zero.
        channel: channel that is shown, unless the image is a color picture.
        axis: axis across the slices of volumes; None: that of the first box or lasso drawn in a slice, else
            that of the thickest slices.
        scribble_points: largest number of points that a scribble becomes on a slice.
        propagate: whether each prompt on a volume propagates the mask to the slices around it; if False,
            ``SamSession.propagate`` does.
        propagation: how.
    """

    window: tuple[float, float] | None = None
    channel: int = Field(default=0, ge=0)
    axis: int | None = Field(default=None, ge=0, le=2)
    scribble_points: int = Field(default=8, ge=1)
    propagate: bool = True
    propagation: PropagationOptions = PropagationOptions()


class AutomaticOptions(Spec):
    """Automatic masks (Kirillov et al. 2023, arXiv:2304.02643, appendix B).

    Attributes:
        points: points along each side of the grid.
        batch: points that are decoded at once.
        min_iou: masks with a lower predicted intersection over union are dropped.
        min_stability: masks that change more between two thresholds of the logits are dropped: least
            intersection over union of the masks at both.
        stability_offset: distance of these thresholds from 0.
        nms: of two masks whose boxes overlap by more, the one with the higher predicted value is kept.
    """

    points: int = Field(default=32, ge=1)
    batch: int = Field(default=64, ge=1)
    min_iou: float = Field(default=0.88, ge=0, le=1)
    min_stability: float = Field(default=0.95, ge=0, le=1)
    stability_offset: float = Field(default=1.0, gt=0)
    nms: float = Field(default=0.7, ge=0, le=1)
