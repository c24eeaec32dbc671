"""The ranking of several methods in words: which is first, on what, and where another is."""

from __future__ import annotations

import math

from markupsafe import Markup

from medseg.report.html import enumerate_words, join, number, plural
from medseg.report.pages.comparison.methods import ComparedMethods
from medseg.report.pages.comparison.values import percent
from medseg.report.pages.scored_cases import as_float

_MOST = 5


def describe_first(compared: ComparedMethods) -> Markup:
    """Return which method ranks first, how sure that is, and on what."""
    order = compared.best_first
    first = order[0]
    rankings = compared.rankings()
    sure = Markup("")
    if rankings:
        share = as_float(rankings[0]["methods"][first]["shares"][0])
        sure = Markup("; it ranks first in {} of the bootstrap samples").format(percent(share))
    mean = number(compared.mean(first), compared.digits, unit=compared.unit)
    over = enumerate_words(compared.labels, most=_MOST)
    return Markup("<b>{} ranks first</b> of {} by mean {} ({}){}. The mean is that of {} on {}.").format(
        first,
        plural(len(order), "method"),
        compared.title,
        mean,
        sure,
        plural(len(compared.cases), "case"),
        over,
    )


def describe_other_firsts(compared: ComparedMethods) -> list[Markup]:
    """Return where another method ranks first: on a label, or by another scheme."""
    first = compared.best_first[0]
    lines = [
        Markup("By {}, {} ranks first.").format(one["scheme"], next(iter(one["methods"])))
        for one in compared.rankings()
        if next(iter(one["methods"])) != first
    ]
    if len(compared.labels) == 1:
        return lines
    sign = 1 if compared.higher else -1
    parts: list[Markup] = []
    for label in compared.labels[:_MOST]:
        means = {name: compared.mean(name, label) for name in compared.methods}
        known = [name for name in compared.best_first if not math.isnan(means[name])]
        if known:
            best = max(known, key=lambda name: sign * means[name])
            mean = number(means[best], compared.digits, unit=compared.unit)
            parts.append(Markup("{}: {} ({})").format(label, best, mean))
    return [Markup("Best mean by label: {}.").format(join(parts, "; ")), *lines]
