"""Reproduction of a run: train it again from its own record, and say what differs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.system.lazy_imports import lazy_names

if TYPE_CHECKING:
    from medseg.study.reproduction.differences import CaseChange, Difference
    from medseg.study.reproduction.reproduce import Reproduction, reproduce_run
    from medseg.study.reproduction.weights import WeightComparison

__all__ = ["CaseChange", "Difference", "Reproduction", "WeightComparison", "reproduce_run"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "medseg.study.reproduction.differences": ("CaseChange", "Difference"),
        "medseg.study.reproduction.reproduce": ("Reproduction", "reproduce_run"),
        "medseg.study.reproduction.weights": ("WeightComparison",),
    },
)
