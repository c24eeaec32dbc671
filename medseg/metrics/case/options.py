"""Options of the metrics of a case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from medseg.metrics.checks import check_tolerance
from medseg.metrics.lesions.detection import DEFAULT_LESIONS, LesionOptions
from medseg.metrics.surface import Surface, check_surface

MetricGroup = Literal["overlap", "boundary", "topology", "lesions", "calibration"]
"""Metrics that are computed together."""

Like = Literal["monai", "deepmind", "medpy", "nnunet"]
"""Library whose conventions are reproduced."""

Tolerance = float | Mapping[str, float]
"""One tolerance, or one per label name."""

Unit = Literal["mm", "px"]
"""Unit of distances: mm, or pixels if the spacing is unknown."""


@dataclass(frozen=True, slots=True)
class MeasureOptions:
    """Which metrics of a label are computed, and how.

    Attributes:
        tolerance_mm: tolerance of the surface Dice in mm (in pixels without spacing): one value, or one per
            name.
        surface: ``surfel`` (elements weighted by area) or ``voxel`` (border voxels).
        ignore_value: reference value of voxels to leave out; for surfaces they are background of both masks.
        groups: groups of metrics; ``calibration`` needs probabilities.
        percentiles: of the Hausdorff distance; 95 is column ``hd95``.
        like: library whose conventions are reproduced, see ``conventions``. It determines the surface elements.
        boundary_iou_mm: width of the rims of the boundary IoU. If None, the tolerance of the label.
        beta: weight of recall in ``f_beta``.
        lesions: matching and size strata of lesions.

    Raises:
        ValueError: if an option is invalid.

    Example:
        >>> MeasureOptions(2.0, groups=("boundary",), percentiles=(95, 99)).distances
        ('hd', 'hd95', 'hd99')
    """

    tolerance_mm: Tolerance = 1.0
    surface: Surface = "surfel"
    ignore_value: int | None = None
    groups: tuple[MetricGroup, ...] = ("overlap", "boundary")
    percentiles: tuple[float, ...] = (95.0,)
    like: Like | None = None
    boundary_iou_mm: float | None = None
    beta: float = 2.0
    lesions: LesionOptions = DEFAULT_LESIONS

    def __post_init__(self) -> None:
        check_surface(self.surface)
        unknown = set(self.groups) - set(get_args(MetricGroup))
        if unknown:
            raise ValueError(f"groups contain {sorted(unknown)}, expected some of {get_args(MetricGroup)}")
        if self.like not in (None, *get_args(Like)):
            raise ValueError(f"like is {self.like!r}, expected one of {get_args(Like)}")
        if not all(0 < percent <= 100 for percent in self.percentiles):
            raise ValueError(f"percentiles are {self.percentiles}, expected values above 0 and at most 100")
        if not self.beta > 0:
            raise ValueError(f"beta is {self.beta}, expected a value above 0")
        if self.boundary_iou_mm is not None:
            check_tolerance(self.boundary_iou_mm)

    @property
    def distances(self) -> tuple[str, ...]:
        """Columns of the Hausdorff distance and its percentiles."""
        percentiles = (f"hd{percent:g}" for percent in self.percentiles if percent != 100)
        return ("hd", *dict.fromkeys(percentiles))

    @property
    def elements(self) -> Surface:
        """Surface elements that are used: those of ``like``, or ``surface``."""
        if self.like is None:
            return self.surface
        return "surfel" if self.like == "deepmind" else "voxel"

    def tolerance_of(self, name: str) -> float:
        """Return the tolerance of a label.

        Raises:
            ValueError: if there is none for this label, or it is negative or not finite.
        """
        if not isinstance(self.tolerance_mm, Mapping):
            return check_tolerance(self.tolerance_mm)
        if name not in self.tolerance_mm:
            raise ValueError(
                f"tolerance_mm has no value for label {name!r}, only for {sorted(self.tolerance_mm)}"
            )
        return check_tolerance(self.tolerance_mm[name])


DEFAULT_MEASURES = MeasureOptions()
