"""The report of a comparison of methods."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from medseg.report import plots
from medseg.report.environment import provenance
from medseg.report.html import (
    Content,
    bullets,
    figure,
    folded,
    grid,
    interval,
    join,
    number,
    paragraph,
    plural,
    tag,
)
from medseg.report.page import Page
from medseg.report.pages.case_sections import CaseSections
from medseg.report.pages.comparison.cases import case_headings, notable_cases
from medseg.report.pages.comparison.methods import OVERALL, ComparedMethods, Result
from medseg.report.pages.comparison.values import FEWEST_NEW, p_value, percent
from medseg.report.pages.comparison.verdict import write_comparison_verdict
from medseg.report.pages.scored_cases import as_float
from medseg.report.table import Column, Order, Table

COMPARISON_PAGE = "Comparison"
"""Kind of this page."""

_MOST_PLOTS = 6


@dataclass(frozen=True)
class ComparisonPage:
    """Builds the report of a comparison.

    Attributes:
        compared: the comparison.
        sections: pictures of cases.
    """

    compared: ComparedMethods
    sections: CaseSections = field(default_factory=CaseSections)

    def build(self) -> Page:
        """Return the page."""
        compared = self.compared
        title = (
            " against ".join(compared.methods) if len(compared.methods) == 2 else ", ".join(compared.methods)
        )
        page = Page(title, COMPARISON_PAGE, write_comparison_verdict(compared, self.sections.link))
        page.add("Methods", self._methods())
        page.add(
            "Differences",
            self._difference_plots(),
            self._results(compared.results, f"Paired differences of {self._metric}; shaded rows are decided"),
        )
        page.add("Cases to look at", self._pictures())
        page.add("Scores", self._score_plots())
        page.add("More comparisons", self._more_results())
        page.add("Ranking", self._rankings() if len(compared.methods) > 2 else "")
        page.add("Subgroups", self._subgroups())
        page.add("All cases", self._cases())
        page.add("Number of cases needed", self._sample_size())
        page.add("How this was measured", self._notes(), provenance(self._definitions()))
        self.sections.equip(page)
        return page

    @property
    def _metric(self) -> str:
        unit = self.compared.unit
        return f"{self.compared.title} ({unit})" if unit else self.compared.title

    def _value(self, value: Any, *, signed: bool = False) -> Markup:
        return number(as_float(value), self.compared.digits, signed=signed)

    def _methods(self) -> Markup:
        compared = self.compared
        several = len(compared.labels) > 1
        columns = [Column("method"), Column("mean" if several else f"mean {self._metric}", "number")]
        columns += [Column(label, "number") for label in compared.labels] if several else []
        columns += [Column("lowest" if compared.higher else "highest", "number", "worst score of a case")]
        if all(compared.missed(name) is not None for name in compared.methods):
            columns += [
                Column("missed", "number", "structures of the references of which nothing was predicted")
            ]
        columns += [Column("no result", "number", "cases without a result")]
        rows = [self._method_row(method, several) for method in compared.best_first]
        title = f"Mean {self._metric} by method{' and label' if several else ''}, best first"
        return Table(title, columns, rows).html()

    def _method_row(self, method: str, several: bool) -> list[Content]:
        compared = self.compared
        means = [compared.mean(method)]
        means += [compared.mean(method, label) for label in compared.labels] if several else []
        defined = [one for one in compared.case_means(method) if not math.isnan(one)]
        worst = (min if compared.higher else max)(defined, default=math.nan)
        missed = [found for found in map(compared.missed, compared.methods) if found is not None]
        known = len(missed) == len(compared.methods)
        counts = [len(missed[compared.methods.index(method)][1])] if known else []
        counts.append(len(compared.missing(method)))
        return [method, *map(self._value, means), self._value(worst), *map(number, counts)]

    def _difference_plots(self) -> Markup:
        drawn = [self._difference_plot(pair) for pair in self.compared.main]
        return grid(*drawn[:_MOST_PLOTS])

    def _difference_plot(self, pair: Result) -> Markup:
        compared = self.compared
        rows = [
            plots.Difference(
                "all labels" if one["label"] == OVERALL else one["label"],
                compared.differences(one),
                compared.cases,
                *(as_float(one[key]) for key in ("difference", "ci_low", "ci_high")),
            )
            for one in compared.of_pair(pair)
        ]
        margin = (pair.get("noninferiority") or {}).get("margin")
        title = f"{pair['method']} − {pair['baseline']}, {self._metric}"
        drawn = plots.difference_plot(rows, title, higher=compared.higher, margin=margin)
        side = "right" if compared.higher else "left"
        caption = f"Every point is a case. {side.capitalize()} of the dashed line, {pair['method']} is better."
        return figure(drawn, f"{caption} Below: mean and {compared.confidence} interval.")

    def _results(self, results: Sequence[Result], title: str) -> Markup:
        columns = [
            Column("method"),
            Column("against", "choice"),
            Column("label", "choice"),
            Column("decision", "choice"),
            Column("n", "number"),
            Column("diff.", "number", "mean difference: method − against"),
            Column(f"{self.compared.confidence} interval", "number"),
            Column("p", "number", "permutation test of the mean, adjusted by Holm's procedure"),
            Column("p (rank)", "number", "Wilcoxon signed-rank test, adjusted by Holm's procedure"),
            Column("+ / − / =", "number", "cases in which the method is better / worse / equal"),
            Column("P(better)", "number", "probability of being better on a new case"),
            Column("d", "number", "mean difference in standard deviations (Cohen's d of paired samples)"),
            Column("r (rank)", "number", "rank-biserial correlation, -1 to 1"),
        ]
        rows = [self._result_row(one) for one in results]
        marks = ["some" if one["decision"] != "undecided" else "" for one in results]
        return Table(title, columns, rows, controls=len(rows) > 8, marks=marks).html()

    def _result_row(self, one: Result) -> list[Content]:
        counts = join((number(int(one[key])) for key in ("wins", "losses", "ties")), " / ")
        digits = self.compared.digits
        return [
            one["method"],
            one["baseline"],
            "all labels" if one["label"] == OVERALL else one["label"],
            one["decision"],
            number(int(one["n"])),
            self._value(one["difference"], signed=True),
            interval(as_float(one["ci_low"]), as_float(one["ci_high"]), digits, signed=True),
            _bare_p(one["p_permutation_holm"]),
            _bare_p(one["p_wilcoxon_holm"]),
            counts,
            number(as_float(one["improvement"]) if one["n"] >= FEWEST_NEW else math.nan, 2),
            number(as_float(one["cohen_dz"]), 2, signed=True),
            number(as_float(one["rank_biserial"]), 2, signed=True),
        ]

    def _score_plots(self) -> Markup:
        compared = self.compared
        parts = [self._box_plot(label) for label in compared.labels[:_MOST_PLOTS]]
        rest = [self._box_plot(label) for label in compared.labels[_MOST_PLOTS:]]
        if len(compared.methods) == 2:
            first, second = compared.main[0]["baseline"], compared.main[0]["method"]
            values = compared.case_means(first), compared.case_means(second)
            drawn = plots.paired_scatter(*values, compared.cases, (first, second), self._metric)
            parts.append(figure(drawn, f"Every point is a case; above the dashed line, {second} is higher."))
        more = folded(f"{len(rest)} more labels", grid(*rest)) if rest else ""
        return join([grid(*parts), more])

    def _box_plot(self, label: str) -> Markup:
        compared = self.compared
        index = compared.labels.index(label)
        groups = [
            plots.Group(method, [float(v) for v in compared.scores[i, :, index]], compared.cases)
            for i, method in enumerate(compared.methods)
        ]
        drawn = plots.box_plot(
            groups, compared.title, score=not compared.unit, unit=compared.unit, digits=compared.digits
        )
        return figure(drawn, tag("b", label) if len(compared.labels) > 1 else "Every point is a case.")

    def _rankings(self) -> Markup:
        rankings = self.compared.rankings()
        if not rankings:
            return Markup("")
        parts: list[Markup] = []
        for one in rankings:
            shares = [[as_float(s) for s in rank["shares"]] for rank in one["methods"].values()]
            caption = Markup(
                "<b>{}</b>. Area: share of the bootstrap samples. Agreement with them (Kendall's tau): {}."
            )
            drawn = plots.rank_plot(list(one["methods"]), shares)
            parts.append(figure(drawn, caption.format(one["scheme"], number(as_float(one["kendall_tau"]), 2))))
        columns = [Column("scheme"), Column("method", "choice"), Column("rank", "number")]
        columns += [
            Column("95% of the samples", "number"),
            Column("first in", "number", "share of the samples"),
        ]
        rows = [
            [
                one["scheme"],
                name,
                number(as_float(rank["rank"]), 1),
                interval(as_float(rank["low"]), as_float(rank["high"]), 1),
                percent(as_float(rank["shares"][0])),
            ]
            for one in rankings
            for name, rank in one["methods"].items()
        ]
        return join([grid(*parts), Table("Ranks, and how stable they are", columns, rows).html()])

    def _subgroups(self) -> Markup:
        found = self.compared.content.get("subgroups") or ()
        parts: list[Markup] = []
        for one in found:
            groups = [
                plots.Estimate(
                    f"{name} (n = {r['n']})", *(as_float(r[k]) for k in ("difference", "ci_low", "ci_high"))
                )
                for name, r in one["groups"].items()
            ]
            title = f"{one['method']} − {one['baseline']}, {self._metric}"
            caption = Markup("<b>{}</b>: test of equal differences in all groups, {} (adjusted).").format(
                one["column"], p_value(one.get("p_interaction_holm"))
            )
            parts.append(figure(plots.interval_plot(groups, title, reference=0.0), caption))
        return grid(*parts) if parts else Markup("")

    def _pictures(self) -> Markup:
        shown = [one for one in notable_cases(self.compared) if one.case in self.sections.pictures]
        return self.sections.with_headings(case_headings(self.compared, shown)) if shown else Markup("")

    def _cases(self) -> Markup:
        compared = self.compared
        pair = compared.main[0] if len(compared.methods) == 2 else None
        columns = [Column("case"), *([Column("label", "choice")] if len(compared.labels) > 1 else [])]
        columns += [Column(f"{method}", "number") for method in compared.methods]
        columns += [Column("difference", "number", f"{pair['method']} − {pair['baseline']}")] if pair else []
        best = compared.methods.index(compared.best_first[0])
        sign = 1 if compared.higher else -1
        keyed = [(case, label) for case in range(len(compared.cases)) for label in range(len(compared.labels))]
        keyed = [key for key in keyed if not all(math.isnan(v) for v in compared.scores[:, *key])]
        keyed.sort(
            key=lambda key: (math.isnan(compared.scores[best, *key]), sign * compared.scores[best, *key])
        )
        rows: list[list[Content]] = []
        for case, label in keyed:
            values = [float(v) for v in compared.scores[:, case, label]]
            row: list[Content] = [self.sections.link(compared.cases[case])]
            row += [compared.labels[label]] if len(compared.labels) > 1 else []
            row += [self._value(value) for value in values]
            if pair:
                ours, theirs = (values[compared.methods.index(pair[key])] for key in ("method", "baseline"))
                row.append(self._value(ours - theirs, signed=True))
            rows.append(row)
        first_score = len(columns) - len(compared.methods) - (pair is not None)
        order: Order = "ascending" if compared.higher else "descending"
        title = f"{self._metric} of every case, worst of {compared.methods[best]} first"
        return Table(title, columns, rows, (first_score + best, order), True).html()

    def _more_results(self) -> Markup:
        """Return the comparisons without replaced results, with a second observer, and of further metrics."""
        content = self.compared.content
        parts: list[Markup] = []
        if content.get("complete_cases"):
            parts.append(
                self._results(content["complete_cases"], "Without the cases that a method has no result of")
            )
        if content.get("observer"):
            parts.append(self._results(content["observer"], "Methods against a second observer"))
            parts += [paragraph(str(note), class_="note") for note in content.get("observer_notes") or ()]
        for one in content.get("secondary") or ():
            other = ComparisonPage(ComparedMethods(one))
            parts.append(other._results(other.compared.main, f"Secondary metric: {other._metric}"))
        return join(parts)

    def _sample_size(self) -> Markup:
        items: list[Content] = []
        for one in self.compared.content.get("sample_sizes") or ():
            seen = Markup("{} against {}: {} detect a difference of {} with a power of {}").format(
                one["method"], one["baseline"], plural(int(one["observed_cases"]), "case"),
                self._value(one["detectable"]), percent(0.8),
            )  # fmt: skip
            if one.get("difference") is not None and one["cases"]:
                needed = join((
                    Markup("{} cases ({} for the upper limit of the variation) with a power of {}").format(
                        number(int(count)), number(int(one["cases_high"][power])), percent(float(power))
                    )
                    for power, count in one["cases"].items()
                ), "; ")  # fmt: skip
                seen += Markup(". A difference of {} needs {}").format(self._value(one["difference"]), needed)
            items.append(join([seen + ".", *([one["caution"]] if one.get("caution") else [])], " "))
        return bullets(items) if items else Markup("")

    def _notes(self) -> Markup:
        content = self.compared.content
        excluded = content.get("excluded") or {}
        every = [content, *(content.get("secondary") or ())]
        lines: list[Content] = list(dict.fromkeys(str(n) for one in every for n in one.get("notes") or ()))
        lines += [f"left out: {key}: {why}" for key, why in list(excluded.items())[:20]]
        lines += [f"and {len(excluded) - 20} more left out"] if len(excluded) > 20 else []
        return bullets(lines) if lines else paragraph("All methods have a score of every case.", class_="note")

    def _definitions(self) -> dict[str, Any]:
        content = self.compared.content
        shown = {f"method {name}": path for name, path in (content.get("sources") or {}).items()}
        given = content.get("options") or {}  # resamples are those of rankings, which the definitions name
        options = {key: value for key, value in given.items() if value is not None and key != "resamples"}
        return {**shown, **options, **(content.get("definitions") or {})}


def write_comparison_page(
    path: Path, comparison: Mapping[str, Any], sections: CaseSections | None = None
) -> None:
    """Write the report of a comparison.

    Args:
        path: file to write.
        comparison: JSON object of the comparison, see :class:`ComparedMethods`.
        sections: pictures of cases; None for none.
    """
    ComparisonPage(ComparedMethods(comparison), sections or CaseSections()).build().write(path)


def _bare_p(value: Any) -> Markup:
    """Return a p value without its letter."""
    return Markup(str(p_value(value)).removeprefix("p = ").removeprefix("p ").replace("not defined", "–"))
