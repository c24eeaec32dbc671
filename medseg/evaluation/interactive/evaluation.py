"""The result of an interactive evaluation: rows of objects and of interactions, and a summary."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from medseg.evaluation.interactive.options import InteractiveOptions
from medseg.evaluation.interactive.simulation import Trace
from medseg.evaluation.interactive.summary import summarize_interactions
from medseg.report.media.figures.prompts import PromptPicture

Row = dict[str, Any]


@dataclass(eq=False)
class ObjectResult:
    """One object that one user segmented with one method.

    Attributes:
        case: id of the case.
        group: part of the dataset, such as a source; empty without.
        object: name of the object.
        label: name of its class.
        method: name of the model or baseline.
        user: habit of the user, or ``human``.
        who: the person whose scribbles were replayed; empty for simulated users.
        voxels: size of the object.
        opening_seconds: that the model took to open the scan.
        trace: scores and times of the interactions.
    """

    case: str
    group: str
    object: str
    label: str
    method: str
    user: str
    who: str
    voxels: int
    opening_seconds: float
    trace: Trace

    def identity(self) -> Row:
        """Return the columns that name the result."""
        names = ("case", "group", "object", "label", "method", "user", "who")
        return {name: getattr(self, name) for name in names}

    def row(self, options: InteractiveOptions) -> Row:
        """Return the row of ``objects.csv``."""
        trace = self.trace
        scores: Row = {f"dice_{count}": trace.dice_after(count) for count in options.counts}
        scores["dice_last"] = trace.final
        scores |= {f"to_{target:.2f}": trace.interactions_to(target) for target in options.targets}
        seconds = float(np.median(trace.seconds)) if trace.seconds else math.nan
        sizes = {"voxels": self.voxels, "interactions": len(trace.dice)}
        times = {"seconds": seconds, "opening_seconds": self.opening_seconds}
        return self.identity() | sizes | scores | times | {"error": trace.error or ""}

    def steps(self) -> list[Row]:
        """Return the rows of ``interactions.csv``."""
        trace = self.trace
        return [
            self.identity()
            | {
                "interaction": number,
                "prompt": type(prompt).__name__.lower(),
                "positive": prompt.positive,
                "dice": dice,
                "seconds": seconds,
            }
            for number, (prompt, dice, seconds) in enumerate(
                zip(trace.prompts, trace.dice, trace.seconds, strict=True), start=1
            )
        ]


@dataclass(frozen=True)
class InteractiveEvaluation:
    """Scores of all objects.

    Attributes:
        results: of each object, user and method.
        options: of the evaluation.
        methods: names of the model and of the baselines, in order.
        failed: cases that could not be read, with the reason.
        skipped: number of objects that were left out because they are small, or too many in one case.
        selection: how the cases were chosen, in words.
        worst: objects with the lowest Dice of the first method, and their pictures.

    Example:
        >>> evaluation.summary["scores"][0]["dice"]["5"]["mean"]  # doctest: +SKIP
        0.91
    """

    results: Sequence[ObjectResult]
    options: InteractiveOptions
    methods: Sequence[str]
    failed: Mapping[str, str] = field(default_factory=dict[str, str])
    skipped: int = 0
    selection: str = "as given"
    worst: Sequence[tuple[ObjectResult, PromptPicture]] = ()

    @cached_property
    def rows(self) -> list[Row]:
        """Rows of ``objects.csv``."""
        return [result.row(self.options) for result in self.results]

    @cached_property
    def steps(self) -> list[Row]:
        """Rows of ``interactions.csv``."""
        return [row for result in self.results for row in result.steps()]

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Content of ``summary.json``: scores of each method and user, and differences to the baselines."""
        summary = summarize_interactions(self.rows, self.options, self.methods)
        errors = sum(result.trace.error is not None for result in self.results)
        return summary | {
            "settings": asdict(self.options),
            "selection": self.selection,
            "failed": dict(self.failed),
            "skipped_objects": self.skipped,
            "model_errors": errors,
        }

    def curve(self, method: str, user: str) -> tuple[list[int], list[float]]:
        """Return the mean Dice over objects after 1, 2, … interactions.

        Interactions that fewer than half of the objects have are left out.
        """
        own = [one.trace for one in self.results if (one.method, one.user) == (method, user)]
        values = [[trace.dice_after(count) for trace in own] for count in range(1, self.options.most + 1)]
        kept = [(count, one) for count, one in enumerate(values, start=1) if np.mean(np.isfinite(one)) >= 0.5]
        return [count for count, _ in kept], [float(np.nanmean(one)) for _, one in kept]
