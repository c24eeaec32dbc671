"""Comparison of methods on the same cases: paired statistics, rankings, subgroups, sample sizes."""

from medseg.evaluation.comparison.comparison import Comparison, compare_scores
from medseg.evaluation.comparison.export import check_output, write_comparison, write_comparison_report
from medseg.evaluation.comparison.method_pair import NonInferiority, PairedResult
from medseg.evaluation.comparison.options import ComparisonOptions, Metric
from medseg.evaluation.comparison.rankings import Rank, Ranking
from medseg.evaluation.comparison.sample_size import SampleSize
from medseg.evaluation.comparison.scores import ScoreTable
from medseg.evaluation.comparison.sources import MethodScores, name_methods, read_method
from medseg.evaluation.comparison.subgroups import Subgroups, read_groups

__all__ = [
    "Comparison",
    "ComparisonOptions",
    "MethodScores",
    "Metric",
    "NonInferiority",
    "PairedResult",
    "Rank",
    "Ranking",
    "SampleSize",
    "ScoreTable",
    "Subgroups",
    "check_output",
    "compare_scores",
    "name_methods",
    "read_groups",
    "read_method",
    "write_comparison",
    "write_comparison_report",
]
