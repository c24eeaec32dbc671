"""Evaluation of models that answer prompts, by simulated users and recorded scribbles."""

from medseg.evaluation.interactive.baselines import BASELINES, Baseline, baseline_by_name
from medseg.evaluation.interactive.cases import InteractiveCase, TargetObject, find_interactive_cases
from medseg.evaluation.interactive.evaluation import InteractiveEvaluation, ObjectResult
from medseg.evaluation.interactive.options import InteractiveOptions
from medseg.evaluation.interactive.run import evaluate_interactive
from medseg.evaluation.interactive.run_parts import choose_cases

__all__ = [
    "BASELINES",
    "Baseline",
    "InteractiveCase",
    "InteractiveEvaluation",
    "InteractiveOptions",
    "ObjectResult",
    "TargetObject",
    "baseline_by_name",
    "choose_cases",
    "evaluate_interactive",
    "find_interactive_cases",
]
