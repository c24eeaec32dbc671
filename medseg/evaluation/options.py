"""Options of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medseg.data.labels.schema import LabelSchema
from medseg.errors import ConfigError, did_you_mean
from medseg.metrics import LesionOptions, Like, MeasureOptions, MetricGroup, MissPolicy, Surface
from medseg.metrics.lesions.detection import DEFAULT_LESIONS

MissingPolicy = Literal["error", "ignore", "worst"]
ExtraPolicy = Literal["error", "ignore"]
OtherValues = Literal["error", "background", "ignore"]

DEFAULT_TOLERANCE = 1.0


@dataclass(frozen=True)
class EvaluationOptions:
    """How predictions are compared with references.

    Attributes:
        labels: names and values. If None, those of ``medseg.json`` in the folder of the predictions; without
            that file they are guessed from the values in the files.
        label_suffix: suffix that names of references add to names of cases, such as ``_mask``.
        prediction_suffix: suffix that names of predictions add to names of cases, such as ``_2ndHO``.
        missing: cases without a prediction are an ``error``, are left out of the means (``ignore``) or get
            the ``worst`` value of every score.
        misses: a structure that is missed, or predicted without being in the reference, counts in mean
            distances with the diagonal of the image (``worst``), or is left out of them and counted
            (``exclude``). Dice, IoU and NSD are 0 in both.
        others: meaning of values without a name, in both files. If None, as the labels define it.
        ignore_value: reference value of voxels to leave out. If None, as the labels define it.
        tolerance: tolerance of the normalized surface Dice in mm, or in pixels for pictures without spacing:
            one value, or one by name of a label; labels without one have 1.
        metrics: groups of metrics: ``overlap`` (always computed), ``boundary``, ``topology``, ``lesions``,
            ``calibration`` (which needs the probabilities that ``medseg infer --probabilities`` writes).
        percentiles: of the Hausdorff distance; 95 is the column ``hd95``.
        surface: ``surfel`` (elements weighted by area) or ``voxel`` (border voxels).
        like: library whose conventions the scores of each case follow. If None, medseg's own.
        lesions: how lesions are matched, and their size strata.
        jobs: most cases compared at a time. If None, the number of cores; in each case, as many as fit into
            half of the available memory.
        images: folder of the images, for the pictures of a report; no score depends on it.
        extra: predictions without a reference are an ``error``, or are left out and listed (``ignore``).

    Raises:
        ConfigError: if a tolerance is negative or not finite, ``jobs`` is below 1, or a group is not known.

    Example:
        >>> EvaluationOptions(missing="worst", tolerance=2.0).tolerance
        2.0
    """

    labels: LabelSchema | None = None
    label_suffix: str | None = None
    prediction_suffix: str | None = None
    missing: MissingPolicy = "error"
    misses: MissPolicy = "worst"
    others: OtherValues | None = None
    ignore_value: int | None = None
    tolerance: float | Mapping[str, float] = DEFAULT_TOLERANCE
    metrics: tuple[MetricGroup, ...] = ("overlap", "boundary")
    percentiles: tuple[float, ...] = (95.0,)
    surface: Surface = "surfel"
    like: Like | None = None
    lesions: LesionOptions = DEFAULT_LESIONS
    jobs: int | None = None
    images: Path | None = None
    extra: ExtraPolicy = "error"

    def __post_init__(self) -> None:
        values = self.tolerance.values() if isinstance(self.tolerance, Mapping) else (self.tolerance,)
        for value in values:
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"--tolerance {value}: expected a finite number, 0 or more")
        if self.jobs is not None and self.jobs < 1:
            raise ConfigError(f"--jobs {self.jobs}: expected 1 or more")
        try:
            MeasureOptions(groups=self.metrics, percentiles=self.percentiles, like=self.like)
        except ValueError as error:
            raise ConfigError(f"--metrics, --percentiles or --like: {error}") from error

    def scores(self, names: Iterable[str]) -> MeasureOptions:
        """Return the options of the scores of one case, whose maps encode ignored voxels as 0.

        Args:
            names: names of the labels or regions that are evaluated.

        Raises:
            ConfigError: if there is a tolerance for another name.
        """
        tolerance = self.tolerance
        if isinstance(tolerance, Mapping):
            known = list(names)
            _check_names(tolerance, known)
            tolerance = {name: tolerance.get(name, DEFAULT_TOLERANCE) for name in known}
        return MeasureOptions(
            tolerance_mm=tolerance,
            surface=self.surface,
            ignore_value=0,
            groups=tuple(dict.fromkeys(("overlap", *self.metrics))),
            percentiles=self.percentiles,
            like=self.like,
            lesions=self.lesions,
        )


DEFAULT_OPTIONS = EvaluationOptions()


def parse_tolerance(text: str) -> float | dict[str, float]:
    """Parse the tolerance of the surface Dice: one number, or ``NAME=NUMBER[,…]``.

    Raises:
        ConfigError: if the text is neither, or a name appears twice.

    Example:
        >>> parse_tolerance("2.5"), parse_tolerance("liver=3,tumor=1.5")
        (2.5, {'liver': 3.0, 'tumor': 1.5})
    """
    try:
        if "=" not in text:
            return _finite(text)
        pairs = [entry.partition("=") for entry in text.split(",")]
        tolerances = {name.strip(): _finite(value) for name, _, value in pairs}
    except ValueError as error:
        raise ConfigError(
            f"--tolerance {text!r}: expected a number, or NAME=NUMBER[,NAME=NUMBER…]",
            hint="For example --tolerance 2, or --tolerance liver=3,tumor=1.5.",
        ) from error
    if len(tolerances) < len(pairs):
        raise ConfigError(f"--tolerance {text!r}: a name appears twice")
    return tolerances


def _finite(text: str) -> float:
    """Return a number. Raises: ValueError if it is not a finite one, or negative."""
    number = float(text)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{text!r} is not a finite number of at least 0")
    return number


def parse_numbers(option: str, text: str) -> tuple[float, ...]:
    """Parse numbers separated by commas.

    Raises:
        ConfigError: if the text is anything else.

    Example:
        >>> parse_numbers("--percentiles", "95,99")
        (95.0, 99.0)
    """
    try:
        numbers = tuple(float(number) for number in text.split(","))
        if not all(map(math.isfinite, numbers)):
            raise ValueError(text)
        return numbers
    except ValueError as error:
        raise ConfigError(f"{option} {text!r}: expected numbers, such as 95,99") from error


def _check_names(tolerance: Iterable[str], known: list[str]) -> None:
    for name in tolerance:
        if name not in known:
            raise ConfigError(
                f"--tolerance: {name!r} is not a label",
                hint=did_you_mean(name, known) or f"Labels: {', '.join(known)}.",
            )
