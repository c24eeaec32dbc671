"""Definition, unit and direction of every column of a table of metrics."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Literal

from medseg.metrics.case.options import MetricGroup

Better = Literal["higher", "lower", "zero"]


@dataclass(frozen=True, slots=True)
class MetricInfo:
    """What a column contains.

    Attributes:
        column: name.
        group: metrics that it is computed with; None for counts and sizes.
        unit: ``mm``, ``mm³`` (mm² or pixels for pictures), ``voxels``, or empty for ratios and numbers.
        better: whether higher or lower values are better, or values near zero; None if the column is no score.
        worst: value of a structure that is not predicted at all; nan if that is not defined.
        definition: formula in words.
    """

    column: str
    group: MetricGroup | None
    unit: str
    better: Better | None
    worst: float
    definition: str


def metric_info(column: str) -> MetricInfo:
    """Return what a column of ``measure_case`` contains.

    Raises:
        KeyError: if no metric has this column.

    Example:
        >>> metric_info("hd95").unit, metric_info("hd95").better, metric_info("dice").worst
        ('mm', 'lower', 0.0)
    """
    if column in _INFOS:
        return _INFOS[column]
    if matched := re.fullmatch(r"hd(\d+(?:\.\d+)?)", column):
        text = f"larger of the two directed {matched[1]}th percentiles of the surface distances"
        return replace(_INFOS["hd"], column=column, definition=text)
    if matched := re.fullmatch(r"lesion_sensitivity_([<>]=?[\d.e+]+)", column):
        text = f"lesion_sensitivity of reference lesions of {matched[1]} mm³ (smaller strata excluded)"
        return replace(_INFOS["lesion_sensitivity"], column=column, definition=text)
    if matched := re.fullmatch(r"(reference|predicted)_(volume|area)_(mm2|mm3|px)", column):
        unit = {"mm2": "mm²", "mm3": "mm³", "px": "voxels"}[matched[3]]
        text = f"{matched[2]} of the {matched[1].replace('predicted', 'prediction')}"
        return MetricInfo(column, None, unit, None, math.nan, text)
    raise KeyError(column)


_CORRELATIONS = ("kappa", "mcc")


def value_range(column: str) -> tuple[float, float]:
    """Return the smallest and the largest value that a column can have; infinite where there is no bound.

    Example:
        >>> value_range("dice"), value_range("hd95"), value_range("my_score")
        ((0.0, 1.0), (0.0, inf), (-inf, inf))
    """
    try:
        info = metric_info(column)
    except KeyError:
        return -math.inf, math.inf
    if info.better == "zero" or column in _CORRELATIONS:
        return -1.0, math.inf if info.better == "zero" else 1.0
    is_ratio = info.group is not None and not info.unit and info.worst == 0.0
    return 0.0, 1.0 if is_ratio or column in ("ece", "brier") else math.inf


def _ratio(column: str, group: MetricGroup, definition: str, better: Better = "higher") -> MetricInfo:
    worst = {"higher": 0.0, "lower": math.nan, "zero": -1.0}[better]
    return MetricInfo(column, group, "", better, worst, definition)


def _distance(column: str, definition: str) -> MetricInfo:
    return MetricInfo(column, "boundary", "mm", "lower", math.inf, definition)


def _count(column: str, definition: str, better: Better | None = None) -> MetricInfo:
    return MetricInfo(column, "lesions", "", better, math.nan, definition)


_LISTED = (
    _ratio("dice", "overlap", "2·TP / (2·TP + FP + FN)"),
    _ratio("iou", "overlap", "TP / (TP + FP + FN)"),
    _ratio("precision", "overlap", "TP / (TP + FP)"),
    _ratio("recall", "overlap", "TP / (TP + FN)"),
    _ratio("specificity", "overlap", "TN / (TN + FP)"),
    _ratio("accuracy", "overlap", "(TP + TN) / all voxels"),
    _ratio("f_beta", "overlap", "(1 + β²)·TP / ((1 + β²)·TP + β²·FN + FP)"),
    _ratio("volume_similarity", "overlap", "1 − |predicted − reference| / (predicted + reference)"),
    _ratio("relative_volume_difference", "overlap", "(predicted − reference) / reference, signed", "zero"),
    _ratio("kappa", "overlap", "Cohen's kappa: (agreement − chance) / (1 − chance)"),
    _ratio("mcc", "overlap", "Matthews correlation coefficient"),
    _distance("hd", "Hausdorff distance: largest distance between the surfaces, both directions"),
    _distance("assd", "Σ weight·distance / Σ weight over both surfaces"),
    _distance("masd", "mean of the mean distances of both directions"),
    _ratio("nsd", "boundary", "fraction of both surfaces within the tolerance of the other"),
    _ratio("boundary_iou", "boundary", "IoU of the voxels within a distance of the background"),
    _ratio("cldice", "topology", "harmonic mean of the fractions of each skeleton inside the other mask"),
    *(
        MetricInfo(f"betti{k}_error", "topology", "", "lower", math.nan, f"difference of the number of {what}")
        for k, what in enumerate(("components", "holes (2D) or tunnels (3D)", "cavities"))
    ),
    _count("lesions_reference", "connected components of the reference"),
    _count("lesions_predicted", "connected components of the prediction"),
    _ratio("lesion_sensitivity_any", "lesions", "fraction of reference lesions that overlap the prediction"),
    _ratio("lesion_precision_any", "lesions", "fraction of predicted lesions that overlap the reference"),
    _ratio("lesion_f1_any", "lesions", "harmonic mean of lesion_sensitivity_any and lesion_precision_any"),
    _count("lesion_fp_any", "predicted lesions that do not overlap the reference", "lower"),
    _count("lesion_tp", "lesions matched one-to-one with the smallest IoU or more", "higher"),
    _count("lesion_fp", "predicted lesions without a match", "lower"),
    _count("lesion_fn", "reference lesions without a match", "lower"),
    _ratio("lesion_sensitivity", "lesions", "lesion_tp / reference lesions"),
    _ratio("lesion_precision", "lesions", "lesion_tp / predicted lesions"),
    _ratio("lesion_f1", "lesions", "2·lesion_tp / (reference lesions + predicted lesions)"),
    _ratio("lesion_iou", "lesions", "mean IoU of the matched lesions"),
    _ratio(
        "lesion_dice",
        "lesions",
        "mean over reference lesions of the best Dice with a predicted lesion",
    ),
    *(
        MetricInfo(column, "lesions", "mm³", "lower", math.nan, f"volume of {what} (autoPET)")
        for column, what in (
            ("fp_volume", "predicted components without overlap with the reference"),
            ("fn_volume", "reference components without overlap with the prediction"),
        )
    ),
    _ratio("brats_dice", "lesions", "lesion-wise Dice of BraTS 2023"),
    MetricInfo("brats_hd95", "lesions", "mm", "lower", 374.0, "lesion-wise hd95 of BraTS 2023"),
    _count("brats_tp", "detected reference lesions by the rules of BraTS 2023", "higher"),
    _count("brats_fn", "missed reference lesions by the rules of BraTS 2023", "lower"),
    _count("brats_fp", "predicted components that belong to no lesion by the rules of BraTS 2023", "lower"),
    _ratio("ece", "calibration", "expected calibration error of the probability, bins (lo, hi]", "lower"),
    _ratio("brier", "calibration", "mean squared error of the label's probability", "lower"),
    _ratio("nll", "calibration", "mean negative log-likelihood of the label's probability", "lower"),
    _ratio("average_precision", "calibration", "Σ (Rᵢ − Rᵢ₋₁)·Pᵢ over thresholds of the probability"),
    *(
        MetricInfo(column, None, "voxels", None, math.nan, f"{what} voxels")
        for column, what in (
            ("tp", "true-positive"),
            ("fp", "false-positive"),
            ("fn", "false-negative"),
            ("tn", "true-negative"),
        )
    ),
)
_INFOS = {info.column: info for info in _LISTED}
