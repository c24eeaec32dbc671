"""The content of a comparison of methods, as a report reads it from JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.report.pages.scored_cases import as_float

OVERALL = "overall"

Result = Mapping[str, Any]


def turned(result: Result) -> Result:
    """Return the comparison of two methods in the other direction: what was the baseline is the method."""
    exchanged = {"method": "baseline", "mean_method": "mean_baseline", "wins": "losses"}
    new = {
        **result,
        **{a: result[b] for a, b in exchanged.items()},
        **{b: result[a] for a, b in exchanged.items()},
    }
    negated = {"difference": "difference", "median": "median", "ci_low": "ci_high", "ci_high": "ci_low"}
    new |= {key: 0.0 - as_float(result[own]) for key, own in negated.items() if own in result}
    rest = {
        "improvement": "improvement",
        "improvement_low": "improvement_high",
        "improvement_high": "improvement_low",
    }
    new |= {key: 1 - as_float(result[own]) for key, own in rest.items() if own in result}
    decisions = {"better": "worse", "worse": "better"}
    return new | {"decision": decisions.get(result["decision"], result["decision"])}


def winner_first(result: Result) -> Result:
    """Return a comparison whose method is the better one, if one is decided to be better."""
    return turned(result) if result["decision"] == "worse" else result


@dataclass(frozen=True)
class ComparedMethods:
    """A comparison of methods.

    Attributes:
        content: JSON object of the comparison, with ``methods``, ``labels``, ``cases``, ``metric``, ``unit``,
            ``scores`` (M methods, C cases, L labels) and ``results`` (paired comparisons); other keys may be
            absent.
    """

    content: Mapping[str, Any]

    @property
    def methods(self) -> list[str]:
        """Names of the methods."""
        return list(self.content["methods"])

    @property
    def labels(self) -> list[str]:
        """Names of the labels."""
        return list(self.content["labels"])

    @property
    def cases(self) -> list[str]:
        """Ids of the cases."""
        return list(self.content["cases"])

    @property
    def title(self) -> str:
        """Name of the metric, such as ``Dice``."""
        metric = self.content["metric"]
        return str(metric.get("title") or metric["name"])

    @property
    def unit(self) -> str:
        """Unit of the metric; empty for scores."""
        return str(self.content.get("unit") or "")

    @property
    def higher(self) -> bool:
        """Whether higher values are better."""
        return self.content["metric"]["better"] == "higher"

    @property
    def digits(self) -> int:
        """Decimals of the metric."""
        return 2 if self.unit else 3

    @property
    def confidence(self) -> str:
        """Level of the intervals, such as ``95%``."""
        return f"{100 * (1 - as_float(self.content.get('options', {}).get('alpha', 0.05))):g}%"

    @cached_property
    def scores(self) -> NDArray[np.float64]:
        """(M, C, L) scores; nan where there is none."""
        nested = self.content["scores"]
        shape = (len(self.methods), len(self.cases), len(self.labels))
        flat = [as_float(value) for method in nested for case in method for value in case]
        return np.array(flat, float).reshape(shape)

    @property
    def results(self) -> list[Result]:
        """The paired comparisons."""
        return list(self.content["results"])

    @property
    def main(self) -> list[Result]:
        """The comparison over all labels of each pair of methods."""
        label = OVERALL if len(self.labels) > 1 else self.labels[0]
        return [one for one in self.results if one["label"] == label]

    def of_pair(self, pair: Result) -> list[Result]:
        """Return the comparisons of the same two methods, over all labels and on each."""
        same = ("method", "baseline")
        return [one for one in self.results if all(one[key] == pair[key] for key in same)]

    def case_means(self, method: str) -> list[float]:
        """Return the mean score over the labels of each case; nan without any."""
        return [_mean(row) for row in self.scores[self.methods.index(method)]]

    def differences(self, pair: Result) -> list[float]:
        """Return the differences of two methods per case, on the label of the pair or the mean over labels."""
        ours, theirs = (self.scores[self.methods.index(pair[key])] for key in ("method", "baseline"))
        if pair["label"] in self.labels:
            index = self.labels.index(pair["label"])
            return [float(one) for one in ours[:, index] - theirs[:, index]]
        return [_mean(row) for row in ours - theirs]

    def rankings(self, label: str | None = None) -> list[Mapping[str, Any]]:
        """Return the rankings over all labels, or on one label."""
        wanted = label or (OVERALL if len(self.labels) > 1 else self.labels[0])
        return [one for one in self.content.get("rankings") or () if one["label"] == wanted]

    @property
    def best_first(self) -> list[str]:
        """The methods by their rank in the first ranking, else by their mean."""
        rankings = self.rankings()
        if rankings:
            return list(rankings[0]["methods"])
        means = {name: _mean(self.scores[i].ravel()) for i, name in enumerate(self.methods)}
        return sorted(means, key=lambda name: -means[name] if self.higher else means[name])

    def mean(self, method: str, label: str | None = None) -> float:
        """Return the mean score of a method on a label, or the mean of the labels' means."""
        values = self.scores[self.methods.index(method)]
        if label is not None:
            return _mean(values[:, self.labels.index(label)])
        return _mean([_mean(column) for column in values.T])

    def missing(self, method: str) -> Sequence[str]:
        """Return the cases without a result of a method."""
        return list((self.content.get("missing") or {}).get(method) or ())

    def missed(self, method: str) -> tuple[int, list[tuple[str, str]]] | None:
        """Return the number of structures in the references, and case and label of those that a method missed.

        None if the tables do not tell.
        """
        found = (self.content.get("missed_structures") or {}).get(method)
        return None if found is None else (int(found["structures"]), [(c, name) for c, name in found["missed"]])


def _mean(values: Sequence[float] | NDArray[np.float64]) -> float:
    defined = [float(value) for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan
