"""The verdict of a comparison, in words: which is better, on what, by how much, how sure, where it fails."""

from __future__ import annotations

import math
from collections.abc import Callable

from markupsafe import Markup

from medseg.report.html import Content, bullets, enumerate_words, interval, join, number, paragraph, plural
from medseg.report.pages.comparison.methods import OVERALL, ComparedMethods, Result, turned, winner_first
from medseg.report.pages.comparison.ranking import describe_first, describe_other_firsts
from medseg.report.pages.comparison.values import FEWEST_NEW, p_value, percent
from medseg.report.pages.scored_cases import as_float

_MOST = 5
_MEANINGS = {
    "dice": "Dice: overlap with the reference, from 0 (none) to 1 (identical).",
    "iou": "IoU: overlap with the reference, from 0 (none) to 1 (identical).",
    "nsd": "NSD: share of both surfaces within the tolerance of each other, from 0 to 1 (all).",
    "cldice": "clDice: agreement of the center lines, from 0 (none) to 1 (all).",
    "hd": "HD: largest distance between both surfaces; 0 is perfect.",
    "hd95": "HD95: distance that 95% of both surfaces do not exceed; 0 is perfect.",
    "assd": "ASSD: mean distance between both surfaces; 0 is perfect.",
    "masd": "MASD: mean distance between both surfaces; 0 is perfect.",
}


def write_comparison_verdict(compared: ComparedMethods, link: Callable[[str], Content] = str) -> Markup:
    """Return the verdict of a comparison.

    Args:
        compared: the comparison.
        link: returns the name of a case, as a link if it is drawn.
    """
    results = compared.main
    if len(results) == 1:
        lead, rest = _lead(compared, results[0]), _one_pair(compared, results[0])
    else:
        lead, rest = describe_first(compared), _pairs(compared)
    meaning = _MEANINGS.get(str(compared.content["metric"]["name"]), "")
    return join(
        [
            paragraph(lead, class_="lead"),
            *_misses(compared, link),
            *rest,
            *_observer(compared),
            *_failures(compared, link),
            *_missing(compared),
            *_notes(compared),
            paragraph(meaning, class_="note") if meaning else "",
        ]
    )


def _lead(compared: ComparedMethods, result: Result) -> Markup:
    result = winner_first(result)
    better, worse = result["method"], result["baseline"]
    if result["decision"] == "undecided":
        head = Markup("<b>No difference is established</b> between {} and {}").format(better, worse)
    else:
        head = Markup("<b>{} is better than {}</b>").format(better, worse)
    labels = len(compared.labels)
    over = Markup("{} and {}").format(plural(int(result["n"]), "case"), plural(labels, "label"))
    return Markup("{}: mean {} {} of {} against {} of {}, over {}.").format(
        head,
        compared.title,
        number(as_float(result["mean_method"]), compared.digits, unit=compared.unit),
        result["method"],
        number(as_float(result["mean_baseline"]), compared.digits, unit=compared.unit),
        result["baseline"],
        over if labels > 1 else plural(int(result["n"]), "case"),
    )


def _one_pair(compared: ComparedMethods, given: Result) -> list[Markup]:
    result = winner_first(given)
    unit = f" {compared.unit}" if compared.unit else ""
    amount = Markup("By how much: {}{} ({} interval {}{}), {}{}.").format(
        number(as_float(result["difference"]), compared.digits, signed=True),
        unit,
        compared.confidence,
        interval(as_float(result["ci_low"]), as_float(result["ci_high"]), compared.digits, signed=True),
        unit,
        p_value(result["p_permutation_holm"]),
        "" if compared.higher else "; lower is better",
    )
    sure = Markup("How often: {} is better in {} and worse in {} of {}{}{}.").format(
        result["method"],
        number(int(result["wins"])),
        number(int(result["losses"])),
        plural(int(result["n"]), "case"),
        Markup(", equal in {}").format(number(int(result["ties"]))) if result["ties"] else "",
        _improvement(compared, result),
    )
    lines: list[Content] = [amount, sure, *_doubts(compared, result)]
    labels = [one for one in compared.of_pair(given) if one["label"] != OVERALL]
    if len(labels) > 1:
        lines.append(_on_what(labels if result is given else [turned(one) for one in labels]))
    lines += [_noninferiority(given)] if given.get("noninferiority") else []
    lines += _secondary(compared)
    return [bullets(lines)]


def _observer(compared: ComparedMethods) -> list[Markup]:
    """Return how each method compares with the agreement of a second observer with the reference."""
    every: list[Result] = compared.content.get("observer") or []
    results = [one for one in every if one["label"] == every[0]["label"]]  # the overall result comes first
    if not results:
        return []
    words = {"better": "better", "worse": "worse", "undecided": "not shown to differ"}
    parts = [
        Markup("{} {}, {}").format(
            one["method"], number(as_float(one["mean_method"]), compared.digits), words[one["decision"]]
        )
        for one in results
    ]
    line = Markup("Agreement of {} with the reference: {} {} (over {}). {}.").format(
        results[0]["baseline"],
        compared.title,
        number(as_float(results[0]["mean_baseline"]), compared.digits, unit=compared.unit),
        plural(int(results[0]["n"]), "case"),
        join(parts, "; "),
    )
    notes = [str(note) for note in compared.content.get("observer_notes") or ()]
    return [paragraph(join([line, *notes], " "))]


def _doubts(compared: ComparedMethods, result: Result) -> list[Markup]:
    """Return what limits the answer: tests that disagree, missing results, differences too small to be seen."""
    lines = _rank_test(compared, result)
    decided = result["decision"] != "undecided"
    size = _same_pair(compared, "sample_sizes", result)
    fewest = int(compared.content.get("fewest_cases", 0))
    alpha = as_float(compared.content.get("options", {}).get("alpha", 0.05))
    if int(result["n"]) < fewest:
        text = Markup("{} cannot decide whether they differ: with fewer than {} no test can reach p &lt; {}.")
        lines.append(text.format(plural(int(result["n"]), "case"), number(fewest), number(alpha, 2)))
    elif not decided and size is not None and as_float(size["detectable"]) > 0:
        text = Markup(
            "That does not show that they are equal: {} detect a difference of {} with a probability of {}, "
            "smaller ones less often."
        )
        seen = number(as_float(size["detectable"]), compared.digits, unit=compared.unit)
        lines.append(text.format(plural(int(size["observed_cases"]), "case"), seen, percent(0.8)))
    complete = _same_pair(compared, "complete_cases", result)
    if complete is not None and complete["n"]:
        words = {"undecided": "no difference is established"}
        text = Markup("On the {} that both have results of, {}: {} ({} interval {}).")
        lines.append(
            text.format(
                plural(int(complete["n"]), "case"),
                words.get(complete["decision"], f"{result['method']} is {complete['decision']}"),
                number(as_float(complete["difference"]), compared.digits, signed=True, unit=compared.unit),
                compared.confidence,
                interval(
                    as_float(complete["ci_low"]), as_float(complete["ci_high"]), compared.digits, signed=True
                ),
            )
        )
    return lines


def _rank_test(compared: ComparedMethods, result: Result) -> list[Markup]:
    """Return what the test of the ranks says, if it disagrees with the decision about the mean."""
    ranks = as_float(result.get("p_wilcoxon_holm"))
    alpha = as_float(compared.content.get("options", {}).get("alpha", 0.05))
    decided = result["decision"] != "undecided"
    if math.isnan(ranks) or (ranks < alpha) == decided:
        return []
    gain = as_float(result.get("median"))
    better = result["method"] if (gain > 0) == compared.higher else result["baseline"]
    if not decided and better != result["method"]:
        gain = 0.0 - gain  # as the sentence names the better one first
    median = Markup("a median difference of {}; test of the ranks: {}").format(
        number(gain, compared.digits, signed=True, unit=compared.unit), p_value(ranks)
    )
    words = (
        "The mean differs, the typical case hardly does ({median}): a few cases differ by much."
        if decided
        else "In the typical case {better} is better ({median}), but not clearly in the mean: a few cases "
        "differ by much more."
    )
    return [Markup(words).format(median=median, better=better)]


def _same_pair(compared: ComparedMethods, key: str, result: Result) -> Result | None:
    """Return what belongs to the same two methods, in the direction of the result."""
    names = (result["method"], result["baseline"])
    for one in compared.content.get(key) or ():
        if (one["method"], one["baseline"]) == names:
            return one
        if (one["baseline"], one["method"]) == names:
            return turned(one) if "decision" in one else one
    return None


def _secondary(compared: ComparedMethods) -> list[Markup]:
    """Return a line for each further metric and pair."""
    others = [ComparedMethods(one) for one in compared.content.get("secondary") or ()]
    return [
        Markup("{}: {}").format(other.title, _pair_line(other, winner_first(result)))
        for other in others
        for result in other.main[:_MOST]
    ]


def _misses(compared: ComparedMethods, link: Callable[[str], Content]) -> list[Markup]:
    """Return how many structures each method missed entirely, and which."""
    parts: list[Markup] = []
    for method in compared.best_first:
        found = compared.missed(method)
        if found is None:
            continue
        structures, missed = found
        several = len(compared.labels) > 1
        named = [
            Markup("{} ({})").format(link(case), label) if several else link(case)
            for case, label in missed[:_MOST]
        ]
        more = [Markup("{} more").format(number(len(missed) - _MOST))] if len(missed) > _MOST else []
        which = Markup(": {}").format(join([*named, *more], ", ")) if missed else ""
        parts.append(Markup("{} {} of {}{}").format(method, number(len(missed)), number(structures), which))
    if not parts:
        return []
    some = any(found[1] for found in map(compared.missed, compared.methods) if found)
    text = Markup("Structures missed entirely: {}.").format(join(parts, "; "))
    return [paragraph(text, class_="alarm" if some else "fine")]


def _improvement(compared: ComparedMethods, result: Result) -> Markup:
    if result["n"] < FEWEST_NEW:
        return Markup("")
    text = "; on a new case it is the better one with a probability of {} ({} interval {})"
    return Markup(text).format(
        percent(as_float(result["improvement"])),
        compared.confidence,
        Markup("{} to {}").format(
            *(percent(as_float(result[f"improvement_{end}"])) for end in ("low", "high"))
        ),
    )


def _on_what(labels: list[Result]) -> Markup:
    parts: list[Markup] = []
    for decision, words in (
        ("better", "better on"),
        ("worse", "worse on"),
        ("undecided", "not clearly different on"),
    ):
        own = [one for one in labels if one["decision"] == decision]
        if own:
            named = enumerate_words(_label_difference(one) for one in own[:8])
            more = Markup(" and {} more").format(number(len(own) - 8)) if len(own) > 8 else ""
            parts.append(Markup("{} {}{}").format(words, named, more))
    return Markup("On what: {} is {}.").format(labels[0]["method"], join(parts, "; "))


def _label_difference(result: Result) -> Markup:
    return Markup("{} ({})").format(result["label"], number(as_float(result["difference"]), 3, signed=True))


def _noninferiority(result: Result) -> Markup:
    found = result["noninferiority"]
    words = {
        "non-inferior": "{} is not worse than {} by {} or more (non-inferior, {}).",
        "inferior": "{} is worse than {} by {} or more (inferior, {}).",
        "inconclusive": "It is not decided whether {} is worse than {} by {} or more ({}).",
    }
    text = Markup(words[found["verdict"]])
    return text.format(
        result["method"], result["baseline"], number(as_float(found["margin"])), p_value(found["p"])
    )


def _pairs(compared: ComparedMethods) -> list[Markup]:
    lines: list[Content] = [*describe_other_firsts(compared)]
    for one in map(winner_first, compared.main[:10]):
        lines.append(join([_pair_line(compared, one), *_rank_test(compared, one)], ". "))
    more = len(compared.main) - 10
    return [
        bullets([*lines, *([Markup("{} in the table").format(plural(more, "more pair"))] if more > 0 else [])])
    ]


def _pair_line(compared: ComparedMethods, result: Result) -> Markup:
    words = {"better": "is better than", "worse": "is worse than", "undecided": "does not differ clearly from"}
    return Markup("{} {} {}: {} ({}), {}").format(
        result["method"],
        words[result["decision"]],
        result["baseline"],
        number(as_float(result["difference"]), compared.digits, signed=True, unit=compared.unit),
        interval(as_float(result["ci_low"]), as_float(result["ci_high"]), compared.digits, signed=True),
        p_value(result["p_permutation_holm"]),
    )


def _failures(compared: ComparedMethods, link: Callable[[str], Content]) -> list[Markup]:
    """Return the lowest scores of the best method, and where it loses most."""
    best = compared.best_first[0]
    sign = 1 if compared.higher else -1
    ranked = [(score, case) for score, case in zip(compared.case_means(best), compared.cases, strict=True)]
    ranked = sorted((one for one in ranked if not math.isnan(one[0])), key=lambda one: sign * one[0])
    over = " (mean over labels)" if len(compared.labels) > 1 else ""
    worst = join((_score(compared, score, link(case)) for score, case in ranked[:_MOST]), ", ")
    parts = [paragraph(Markup("Where {} is worst{}: {}.").format(best, over, worst))] if ranked else []
    if len(compared.methods) == 2 and compared.main:
        result = compared.main[0]
        flip = sign if result["method"] == best else -sign
        losses = [
            (flip * value, value, case)
            for value, case in zip(compared.differences(result), compared.cases, strict=True)
            if not math.isnan(value) and flip * value < 0
        ]
        lost = join(
            (_score(compared, abs(value), link(case)) for _, value, case in sorted(losses)[:_MOST]),
            ", ",
        )
        other = next(name for name in compared.methods if name != best)
        if losses:
            parts.append(paragraph(Markup("Where {} is better than {} by most: {}.").format(other, best, lost)))
    return parts


def _score(compared: ComparedMethods, score: float, case: Content) -> Markup:
    return Markup("{} ({})").format(case, number(score, compared.digits, unit=compared.unit))


def _notes(compared: ComparedMethods) -> list[Markup]:
    """Return what limits the conclusions, such as few cases."""
    notes = [str(one) for one in compared.content.get("notes") or ()]
    return [paragraph(f"Note: {note}{'' if note.endswith(('.', '?')) else '.'}") for note in notes[:_MOST]]


def _missing(compared: ComparedMethods) -> list[Markup]:
    parts: list[Markup] = []
    counted = compared.content.get("options", {}).get("missing", "worst") == "worst"
    policy = "counted with the worst score" if counted else "left out for every method"
    for method in compared.methods:
        cases = compared.missing(method)
        if cases:
            more = f" and {len(cases) - _MOST} more" if len(cases) > _MOST else ""
            text = Markup("{} has no result of {}, {}: {}{}.").format(
                method, plural(len(cases), "case"), policy, ", ".join(cases[:_MOST]), more
            )
            parts.append(paragraph(text, class_="alarm"))
    return parts
