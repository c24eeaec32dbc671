"""Comparison of label maps with references: files in, tables out."""

from medseg.evaluation.evaluation import CaseFiles, Evaluation
from medseg.evaluation.labels import parse_labels
from medseg.evaluation.options import EvaluationOptions, parse_numbers, parse_tolerance
from medseg.evaluation.run import evaluate_cases

__all__ = [
    "CaseFiles",
    "Evaluation",
    "EvaluationOptions",
    "evaluate_cases",
    "parse_labels",
    "parse_numbers",
    "parse_tolerance",
]
