"""The verdict of an evaluation, in words: what was evaluated, how good it is, what was missed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from medseg.metrics.tables.coverage import split_by_rule
from medseg.metrics.tables.mistaken import describe_mistaken, mistaken_labels
from medseg.report.html import Content, bullets, enumerate_words, interval, join, number, paragraph, plural
from medseg.report.pages.scored_cases import ScoredCase, ScoredCases, as_float

_MOST_LABELS = 6
_MOST_CASES = 5


def write_verdict(cases: ScoredCases, summary: Mapping[str, Any], link: Callable[[str], Content]) -> Markup:
    """Return the verdict of an evaluation.

    Args:
        cases: rows of ``cases.csv``.
        summary: content of ``summary.json``.
        link: returns the name of a case, with a link if the page has a section about it.
    """
    parts = [
        paragraph(_lead(cases, summary), class_="lead"),
        paragraph(_coverage(cases, summary)),
        *_problems(cases, summary, link),
    ]
    if len(summary["labels"]) > 1:
        parts.insert(1, _by_label(summary["labels"]))
    parts.append(paragraph(_lowest(cases, link)))
    return join(parts)


def _lead(cases: ScoredCases, summary: Mapping[str, Any]) -> Markup:
    labels = summary["labels"]
    mean = summary["overall"]["mean_dice"]
    scores = Markup("{} (95% interval {})").format(
        number(mean["mean"]), interval(mean["ci_low"], mean["ci_high"])
    )
    if len(labels) == 1:
        name = next(iter(labels))
        return Markup("Mean Dice of <b>{}</b> is <b>{}</b>.").format(name, scores)
    return Markup("Mean Dice over {} is <b>{}</b>.").format(plural(len(labels), "label"), scores)


def _by_label(labels: Mapping[str, Any]) -> Markup:
    """Return a list of the labels, or of the best and the worst if there are many."""
    entries = {name: entry["metrics"]["dice"] for name, entry in labels.items()}
    order = sorted(entries, key=lambda name: -_finite(entries[name]["mean"]))
    if len(order) <= _MOST_LABELS:
        return bullets(_label(name, entries[name]) for name in order)
    best = enumerate_words(_short(name, entries[name]) for name in order[:3])
    worst = enumerate_words(_short(name, entries[name]) for name in reversed(order[-3:]))
    return bullets([Markup("Best: {}.").format(best), Markup("Worst: {}.").format(worst)])


def _label(name: str, dice: Mapping[str, Any]) -> Markup:
    text = Markup("<b>{}</b>: Dice {}, 95% interval {}, {}")
    return text.format(
        name, number(dice["mean"]), interval(dice["ci_low"], dice["ci_high"]), plural(dice["n"], "case")
    )


def _short(name: str, dice: Mapping[str, Any]) -> Markup:
    return Markup("<b>{}</b> ({})").format(name, number(dice["mean"]))


def _coverage(cases: ScoredCases, summary: Mapping[str, Any]) -> Markup:
    coverage = summary.get("coverage")
    if not coverage:
        return Markup("{} were scored.").format(plural(len(cases.cases), "case"))
    scored, references = int(coverage["scored"]), int(coverage["references"])
    text = Markup("{} of {} {} scored").format(
        number(scored), plural(references, "reference"), "were" if scored != 1 else "was"
    )
    if coverage.get("not_requested"):
        count = int(coverage["not_requested"])
        text += Markup("; {} {} not requested").format(number(count), "was" if count == 1 else "were")
    extra = list(coverage.get("extra") or ())
    if extra:
        text += Markup("; {} without a reference {} left out: {}").format(
            plural(len(extra), "prediction"), "was" if len(extra) == 1 else "were", _names(extra)
        )
    return text + Markup(". ") + _certainty(summary)


def _certainty(summary: Mapping[str, Any]) -> Markup:
    """Return what the interval means, and a warning if there are few cases."""
    fewest = min((int(e["metrics"]["dice"]["n"]) for e in summary["labels"].values()), default=0)
    if fewest < 10:
        return Markup(
            "With {} of a label, an interval is too narrow: read it as a lower bound of the uncertainty."
        ).format(plural(fewest, "case"))
    return Markup("The interval is that of the mean over other cases of the same kind.")


def _problems(cases: ScoredCases, summary: Mapping[str, Any], link: Callable[[str], Content]) -> list[Markup]:
    parts: list[Markup] = []
    missed = cases.missed
    if missed:
        text = Markup("{} of {} missed entirely (Dice 0): {}.").format(
            number(len(missed)),
            Markup("{} structures {}").format(number(cases.structures), "was" if len(missed) == 1 else "were"),
            _list(missed, cases, link),
        )
        parts.append(paragraph(text, class_="alarm"))
    else:
        whole = not (cases.found("never predicted") or cases.found("failed"))
        where = "" if whole else " in the cases that were compared"
        parts.append(paragraph(f"No structure was missed entirely{where}.", class_="fine"))
    false = cases.found("not in reference")
    if false:
        text = Markup("{} predicted where the reference has none: {}.").format(
            Markup("{} {}").format(plural(len(false), "structure"), "was" if len(false) == 1 else "were"),
            _list(false, cases, link),
        )
        parts.append(paragraph(text, class_="alarm"))
    mistaken = describe_mistaken(mistaken_labels(summary.get("dataset") or {}))
    parts += [paragraph(mistaken, class_="alarm")] if mistaken else []
    notes = [paragraph(note[0].upper() + note[1:], class_="alarm") for note in summary.get("notes") or ()]
    return [*notes, *parts, *_not_compared(summary.get("coverage") or {})]


def _not_compared(coverage: Mapping[str, Any]) -> list[Markup]:
    parts: list[Markup] = []
    rules = ("counted with the worst scores", "left out of every mean")
    for kind, what in (("missing", "never predicted"), ("failed", "not readable or not comparable")):
        for rule, names in zip(rules, split_by_rule(coverage, kind), strict=True):
            if names:
                text = Markup("{} {} {}, {}: {}.").format(
                    plural(len(names), "case"), "was" if len(names) == 1 else "were", what, rule, _names(names)
                )
                parts.append(paragraph(text, class_="alarm"))
    return parts


def _lowest(cases: ScoredCases, link: Callable[[str], Content]) -> Markup:
    ranked = [one for one in cases.worst_first if one.finding in ("scored", "outlier")]
    if not ranked:
        return Markup("")
    one = ranked[0]
    count = len(cases.found("outlier"))
    outliers = Markup(" {} far below the others of {} label.").format(
        Markup("{} {}").format(plural(count, "score"), "is" if count == 1 else "are"),
        "its" if count == 1 else "their",
    )
    text = Markup("Lowest Dice of a structure that was found: {} ({} in {}).").format(
        number(one.dice), one.name, link(one.case)
    )
    return text + (outliers if count else Markup(""))


def _list(rows: Sequence[ScoredCase], cases: ScoredCases, link: Callable[[str], Content]) -> Markup:
    several = len(cases.names) > 1
    return _names(
        [Markup("{} ({})").format(link(one.case), one.name) if several else link(one.case) for one in rows]
    )


def _names(names: Sequence[Content]) -> Markup:
    shown = list(names[:_MOST_CASES])
    rest = len(names) - len(shown)
    return join(shown, ", ") + (Markup(" and {} more").format(number(rest)) if rest else Markup(""))


def _finite(value: Any) -> float:
    number_ = as_float(value)
    return number_ if math.isfinite(number_) else -1.0
