"""Comparison of label maps with references: files in, tables out."""

from medseg.evaluation.labels import parse_labels
from medseg.evaluation.options import EvaluationOptions
from medseg.evaluation.run import Evaluation, evaluate_cases

__all__ = ["Evaluation", "EvaluationOptions", "evaluate_cases", "parse_labels"]
