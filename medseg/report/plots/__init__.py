"""Plots of the reports, as SVG in the colors of the page."""

from medseg.report.plots.agreement import Agreement, bland_altman, confusion_plot, reliability_curve
from medseg.report.plots.comparison import Difference, difference_plot, paired_scatter, rank_plot
from medseg.report.plots.curves import Curve, curve_plot
from medseg.report.plots.distributions import Estimate, Group, bar_chart, box_plot, histogram, interval_plot
from medseg.report.plots.trials import (
    TrialCurve,
    TrialPoint,
    front_plot,
    history_plot,
    slice_plot,
    trial_curves,
)

__all__ = [
    "Agreement",
    "Curve",
    "Difference",
    "Estimate",
    "Group",
    "TrialCurve",
    "TrialPoint",
    "bar_chart",
    "bland_altman",
    "box_plot",
    "confusion_plot",
    "curve_plot",
    "difference_plot",
    "front_plot",
    "histogram",
    "history_plot",
    "interval_plot",
    "paired_scatter",
    "rank_plot",
    "reliability_curve",
    "slice_plot",
    "trial_curves",
]
