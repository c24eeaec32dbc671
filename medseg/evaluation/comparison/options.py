"""Options of a comparison of methods, and what is known about metrics."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal

from medseg.data.cases import Part
from medseg.errors import ConfigError, DataError
from medseg.evaluation.options import EvaluationOptions
from medseg.metrics import metric_info

Better = Literal["higher", "lower"]
MissingScores = Literal["worst", "exclude"]

_ROUNDING = 1e-6
"""By how much scores may exceed their limits."""

OVERALL = "overall"
"""Name of the mean of the labels' means."""

_UNIT = re.compile(r"_(mm[23]?|px|ml)$")
_HIGHER = (
    r"dice|iou|jaccard|precision|recall|sensitivity|specificity|accuracy|balanced_accuracy|volume_similarity|"
    r"nsd|boundary_iou|boundary_dice|cldice|(pq|rq|sq|pooled)(_.*)?|aji(_plus)?|average_precision|auc|auroc|"
    r"f\d?(_.*)?|f_?beta.*|"
    r".*(dice|iou|f1|nsd|precision|recall|sensitivity|specificity|accuracy)(_any)?"
)
_CORRELATIONS = r"kappa|cohens?_kappa|mcc"
_ERRORS = r"ece|ace|mce|brier"
_UNBOUNDED = (
    r"(.*_)?hd\d*|hausdorff.*|assd|masd|nll|betti.*|(.*_)?(false|missed|fp|fn)(_.*)?|"
    r".*(error|distance)s?|split|merged"
)
_DISTANCES = r"(.*_)?hd\d*|hausdorff.*|assd|masd"
_SIGNED = r"rvd|relative_volume_difference|volume_difference"


@dataclass(frozen=True)
class Metric:
    """A column of a table of scores.

    Attributes:
        name: name of the column, without a unit.
        better: whether ``higher`` or ``lower`` values are better.
        best: value of a perfect result.
        worst: value of a missing result; inf for distances without a bound.
        magnitude: whether the absolute value is compared, because the column is signed.
    """

    name: str
    better: Better
    best: float
    worst: float
    magnitude: bool = False

    @property
    def sign(self) -> int:
        """1 if higher values are better, else -1."""
        return 1 if self.better == "higher" else -1

    @property
    def is_distance(self) -> bool:
        """Whether the values are distances between surfaces, which the diagonal of the image bounds."""
        return re.fullmatch(_DISTANCES, self.name) is not None

    @property
    def limits(self) -> tuple[float, float]:
        """Smallest and largest possible value of the column; infinite where no bound is known."""
        if math.isnan(self.best) or self.magnitude:
            return -math.inf, math.inf
        bounded = self.better == "higher" or re.fullmatch(_ERRORS, self.name)
        ends = sorted((self.best, self.worst if bounded else math.inf))
        return ends[0], ends[1]

    def check_range(self, value: float, where: str) -> None:
        """Check that a score is possible.

        Raises:
            DataError: if it is not, as a Dice of 90 in percent.
        """
        low, high = self.limits
        if low - _ROUNDING <= value <= high + _ROUNDING or math.isnan(value):
            return
        expected = f"from {low:g} to {high:g}" if math.isfinite(high) else f"of at least {low:g}"
        raise DataError(
            f"{where}: {self.title} is {value:g}, expected a value {expected}",
            hint="Divide percentages by 100. If the column is another metric, give it another name.",
        )

    @property
    def title(self) -> str:
        """Name for texts and heads of tables."""
        return _TITLES.get(self.name, self.name)


_TITLES = {
    "dice": "Dice", "iou": "IoU", "nsd": "NSD", "hd": "HD", "hd95": "HD95", "assd": "ASSD", "masd": "MASD",
    "cldice": "clDice", "ece": "ECE", "nll": "NLL", "mcc": "MCC",
    "pq": "PQ", "sq": "SQ", "rq": "RQ", "aji_plus": "AJI+", "f1_50": "F1@0.5", "f1_75": "F1@0.75",
    "f1_90": "F1@0.9", "pooled_50": "TP/(TP+FP+FN)@0.5", "pooled_mean": "TP/(TP+FP+FN)@0.5:0.95",
}  # fmt: skip


@dataclass(frozen=True)
class ComparisonOptions:
    """What is compared, and how.

    Attributes:
        metric: column of the scores, such as ``dice`` or ``hd95``.
        better: whether ``higher`` or ``lower`` values are better. Needed for columns that medseg does not know.
        missing: a case without a result counts as the ``worst`` score, or is left out for every method
            (``exclude``). It is listed in both.
        also: further metrics. They are secondary: the tests are not adjusted for their number.
        baseline: name of the method that the others are compared with. If None, all pairs are compared.
        margin: largest loss of the mean that is accepted as not inferior. If None, non-inferiority is not
            tested.
        detect: difference of the mean for which the necessary number of cases is planned.
        penalty: value of infinite distances. If None, the diagonal of the image if the table has it, else the
            largest finite distance of the label.
        alpha: level of the tests; intervals have the level 1 - alpha.
        part: part of the split of runs whose cases are compared.
        resamples: number of bootstrap resamples of the rankings.
        seed: seed of resamples and permutations.
        evaluation: labels and files of predictions that are evaluated first.

    Raises:
        ConfigError: if a number is out of range.

    Example:
        >>> ComparisonOptions(metric="hd95", margin=1.0).alpha
        0.05
    """

    metric: str = "dice"
    better: Better | None = None
    missing: MissingScores = "worst"
    also: tuple[str, ...] = ()
    baseline: str | None = None
    margin: float | None = None
    detect: float | None = None
    penalty: float | None = None
    alpha: float = 0.05
    part: Part = "test"
    resamples: int = 1000
    seed: int = 0
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)

    def of_secondary(self, metric: str) -> ComparisonOptions:
        """Return the options for a further metric, to which margin, difference and penalty do not belong."""
        return replace(self, metric=metric, better=None, also=(), margin=None, detect=None, penalty=None)

    def __post_init__(self) -> None:
        for name in ("margin", "detect", "penalty"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigError(f"--{name} {value}: expected a finite number above 0")
        if not 0 < self.alpha < 1:
            raise ConfigError(f"alpha {self.alpha}: expected a number between 0 and 1")
        if self.resamples < 1:
            raise ConfigError(f"resamples {self.resamples}: expected at least 1")


def resolve_metric(name: str, better: Better | None = None) -> Metric:
    """Return what is known about a column of scores.

    Args:
        name: name of the column; a unit at its end, such as ``_mm``, is removed.
        better: direction of a column that medseg does not know.

    Raises:
        ConfigError: if the direction of the metric is unknown, or ``better`` contradicts it.

    Example:
        >>> resolve_metric("hd95_mm")
        Metric(name='hd95', better='lower', best=0.0, worst=inf, magnitude=False)
    """
    name = _UNIT.sub("", name)
    metric = _known_metric(name)
    if metric is not None and better not in (None, metric.better):
        raise ConfigError(
            f"--better {better}: {metric.better} values of {metric.title} are better",
            hint=f"Leave --better out. If the column {name!r} is another metric, give it another name.",
        )
    if metric is None:
        if better is None:
            raise ConfigError(
                f"metric {name!r}: not known whether higher or lower values are better",
                hint="Add --better higher or --better lower.",
            )
        worst = -math.inf if better == "higher" else math.inf
        return Metric(name, better, best=math.nan, worst=worst)
    return metric


def _known_metric(name: str) -> Metric | None:
    """Return a metric of medseg, or one whose name is in use elsewhere.

    The worst value is that of a case without a result, which must not gain from having no false positives.
    """
    direction = _direction(name)
    if direction is None:
        return None
    if direction == "higher":
        return Metric(name, "higher", best=1.0, worst=-1.0 if re.fullmatch(_CORRELATIONS, name) else 0.0)
    worst = 1.0 if re.fullmatch(_ERRORS, name) else math.inf
    with suppress(KeyError):
        stated = metric_info(name).worst
        worst = stated if direction == "lower" and math.isfinite(stated) else worst
    return Metric(name, "lower", best=0.0, worst=worst, magnitude=direction == "zero")


def _direction(name: str) -> Literal["higher", "lower", "zero"] | None:
    """Return which values are better; None for columns that are no scores or are unknown."""
    with suppress(KeyError):
        return metric_info(name).better
    if re.fullmatch(_SIGNED, name):
        return "zero"
    if re.fullmatch(f"{_ERRORS}|{_UNBOUNDED}", name):
        return "lower"
    return "higher" if re.fullmatch(f"{_HIGHER}|{_CORRELATIONS}", name) else None
