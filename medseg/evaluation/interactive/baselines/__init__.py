"""Methods without learning that answer prompts: random walker and active contours."""

from medseg.evaluation.interactive.baselines.baseline import BASELINES, Baseline, baseline_by_name

__all__ = ["BASELINES", "Baseline", "baseline_by_name"]
