"""Plots of the reports, as SVG in the colors of the page."""

from medseg.report.plots.agreement import Agreement, bland_altman, confusion_plot, reliability_curve
from medseg.report.plots.comparison import Difference, difference_plot, paired_scatter, rank_plot
from medseg.report.plots.curves import Curve, curve_plot
from medseg.report.plots.distributions import Estimate, Group, bar_chart, box_plot, histogram, interval_plot

__all__ = [
    "Agreement",
    "Curve",
    "Difference",
    "Estimate",
    "Group",
    "bar_chart",
    "bland_altman",
    "box_plot",
    "confusion_plot",
    "curve_plot",
    "difference_plot",
    "histogram",
    "interval_plot",
    "paired_scatter",
    "rank_plot",
    "reliability_curve",
]
