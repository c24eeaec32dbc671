"""Settings of the sampling of training patches."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from medseg.config.base import Spec
from medseg.data.loading.sampling.cropping import Border

Balance = Literal["uniform", "inverse", "sqrt", "effective", "adaptive"]

_LARGEST_MULTIPLE = 32


class ProgressiveConfig(Spec):
    """Patches that grow during the training: early updates take less time.

    The size changes between two epochs. Each side is a multiple of the largest power of two, up to 32, that
    divides the side of the full patch.

    Attributes:
        start: sides of the first patches, as a share of ``sampling.patch_size``.
        until: position in the training (0 to 1) from which patches have their full size.
        steps: number of sizes, with the full one.
    """

    start: float = Field(default=0.5, gt=0, lt=1)
    until: float = Field(default=0.5, gt=0, le=1)
    steps: int = Field(default=3, ge=2)

    def size_at(self, position: float, full: tuple[int, ...]) -> tuple[int, ...]:
        """Return the size of the patches at a position in the training.

        Args:
            position: from 0 to 1.
            full: size of the last patches.

        Example:
            >>> growing = ProgressiveConfig(start=0.5, until=0.5, steps=3)
            >>> [growing.size_at(position, (128, 48)) for position in (0, 0.25, 0.5)]
            [(64, 32), (96, 32), (128, 48)]
        """
        step = min(int(position / self.until * (self.steps - 1)), self.steps - 1)
        share = self.start + (1 - self.start) * step / (self.steps - 1)
        return tuple(_rounded(share * side, side) for side in full)


def _rounded(wanted: float, side: int) -> int:
    """Round a size to a multiple of the power of two that divides the full ``side``."""
    multiple = min(side & -side, _LARGEST_MULTIPLE)
    return min(max(int(wanted / multiple + 0.5), 1) * multiple, side)


class SamplingConfig(Spec):
    """How training patches are drawn.

    Attributes:
        patch_size: voxels along each axis of the preprocessed grid.
        forced_share: share of the patches that contain a drawn class; the others have random positions.
        balance: how often each class is drawn for the former: ``uniform``, by the inverse (``inverse``), the
            inverse square root (``sqrt``) or the effective number (``effective``) of its voxels, or a weight
            for each name. ``adaptive`` starts uniform and follows the validation: a class with Dice d has
            weight 1 - d, at least 0.1.
        include_background: whether the background is one of the drawn classes.
        border: what a patch contains beyond the border of its scan: ``zeros``, which are ignored by the loss,
            or ``reflect``, the scan and its labels mirrored at the border.
        progressive: smaller patches at first; by default all patches have ``patch_size``.
    """

    patch_size: tuple[Annotated[int, Field(gt=0)], ...] = Field(min_length=2, max_length=3)
    forced_share: float = Field(default=1 / 3, ge=0, le=1)
    balance: Balance | dict[str, float] = "uniform"
    include_background: bool = False
    border: Border = "zeros"
    progressive: ProgressiveConfig | None = None
