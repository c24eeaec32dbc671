"""Options of an evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from medseg.data.labels.schema import LabelSchema
from medseg.errors import ConfigError
from medseg.metrics import ScoreOptions, Surface

MissingPolicy = Literal["error", "ignore", "worst"]
OtherValues = Literal["error", "background", "ignore"]


@dataclass(frozen=True)
class EvaluationOptions:
    """How predictions are compared with references.

    Attributes:
        labels: names and values. If None, those of ``medseg.json`` in the folder of the predictions; without
            that file they are guessed from the values in the references.
        label_suffix: suffix that names of references add to names of predictions, such as ``_mask``.
        missing: cases without a prediction are an ``error``, are left out of the means (``ignore``) or get
            the ``worst`` value of every score.
        others: meaning of values without a name, in both files. If None, as the labels define it.
        ignore_value: reference value of voxels to leave out. If None, as the labels define it.
        tolerance: tolerance of the normalized surface Dice in mm, or in pixels for pictures without spacing.
        surface: ``surfel`` (elements weighted by area) or ``voxel`` (border voxels).

    Raises:
        ConfigError: if the tolerance is negative or not finite.

    Example:
        >>> EvaluationOptions(missing="worst", tolerance=2.0).tolerance
        2.0
    """

    labels: LabelSchema | None = None
    label_suffix: str | None = None
    missing: MissingPolicy = "error"
    others: OtherValues | None = None
    ignore_value: int | None = None
    tolerance: float = 1.0
    surface: Surface = "surfel"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.tolerance) and self.tolerance >= 0):
            raise ConfigError(f"--tolerance {self.tolerance}: expected a finite number, 0 or more")

    @property
    def scores(self) -> ScoreOptions:
        """Options of the scores of one case, whose maps encode ignored voxels as 0."""
        return ScoreOptions(tolerance_mm=self.tolerance, surface=self.surface, ignore_value=0)


DEFAULT_OPTIONS = EvaluationOptions()
