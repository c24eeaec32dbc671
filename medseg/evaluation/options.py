"""What a user chooses of an evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from medseg.data.labels.schema import LabelSchema
from medseg.errors import ConfigError
from medseg.metrics.surface import Surface

MissingPolicy = Literal["error", "ignore", "worst"]
OtherValues = Literal["error", "background", "ignore"]


@dataclass(frozen=True)
class EvaluationOptions:
    """How predictions are compared with references.

    Attributes:
        labels: names and values; none takes those of ``medseg.json`` beside the predictions, else guesses them
            from the values in the references.
        label_suffix: what a reference's name adds to its prediction's, such as ``_mask``.
        missing: what cases without a prediction mean: an ``error``, cases to ``ignore`` in every mean, or the
            ``worst`` value of every score.
        others: what values without a name mean in either file; none takes what the labels say.
        ignore_value: the value of voxels that count nowhere where a reference has it; none takes what the
            labels say.
        tolerance: of the normalized surface Dice, in mm, or in pixels where pictures have no spacing.
        surface: ``surfel`` (area-weighted) or ``voxel`` (border voxels).

    Raises: ConfigError if the tolerance is negative or not finite.
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


DEFAULT_OPTIONS = EvaluationOptions()
