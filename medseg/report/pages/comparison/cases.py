"""Pictures of the cases of a comparison: where the methods differ most, and where the best one is worst."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path

from markupsafe import Markup

from medseg.data.labels.schema import LabelSchema
from medseg.errors import DataError
from medseg.report.folder_names import without_folders
from medseg.report.html import Content, join, number, paragraph, tag
from medseg.report.media.case_view import CaseView, read_method_views
from medseg.report.media.figures.case import FigureOptions
from medseg.report.media.figures.methods import method_figures
from medseg.report.media.payload import VolumePayload, volume_payload
from medseg.report.pages.case_sections import DEFAULT_LIMITS, CaseSections, DrawingLimits, with_viewer
from medseg.report.pages.comparison.methods import ComparedMethods

_MOST = 3
"""Number of cases for each reason."""
_MOST_METHODS = 8
_TIE = 1e-9


@dataclass(frozen=True)
class MethodFiles:
    """The files of a case that several methods segmented.

    Attributes:
        image: its image; None if unknown, label maps are then drawn on black.
        reference: its reference label map.
        predictions: method → its predicted label map; methods without a result are absent.
    """

    image: Path | None = None
    reference: Path | None = None
    predictions: Mapping[str, Path] = field(default_factory=dict[str, Path])


@dataclass(frozen=True)
class NotableCase:
    """A case of a comparison that is worth a look.

    Attributes:
        case: its id.
        reasons: why, in words.
        focus: method whose largest error is shown; None for the largest difference between the methods.
    """

    case: str
    reasons: tuple[str, ...]
    focus: str | None = None


def notable_cases(compared: ComparedMethods, most: int = _MOST) -> list[NotableCase]:
    """Return the cases to look at, the most remarkable first.

    Of two methods, those in which either is better by most, in turn; of more, those whose scores differ most.
    Then those in which the best method is worst, where scores are means over the labels of a case, and missed
    structures.

    Args:
        compared: the comparison.
        most: number of cases for each reason.
    """
    best = compared.best_first[0]
    if len(compared.methods) == 2:
        other = next(name for name in compared.methods if name != best)
        against = _better_by_most(compared, other, best, most)
        turns = zip_longest(against, _better_by_most(compared, best, other, most))
        found = [one for turn in turns for one in turn if one is not None]
    else:
        found = _differ_most(compared, most)
    found += _worst(compared, best, most)
    found += _missed(compared, most)
    merged: dict[str, NotableCase] = {}
    for one in found:
        earlier = merged.get(one.case)
        reasons = tuple(dict.fromkeys((*(earlier.reasons if earlier else ()), *one.reasons)))
        merged[one.case] = NotableCase(one.case, reasons, earlier.focus if earlier else one.focus)
    return [_with_misses(compared, one) for one in merged.values()]


def draw_compared_cases(
    cases: Sequence[NotableCase],
    files: Mapping[str, MethodFiles],
    labels: LabelSchema | None = None,
    limits: DrawingLimits = DEFAULT_LIMITS,
) -> CaseSections:
    """Draw the cases of a comparison: image, reference and each method side by side, and a viewer of volumes.

    The viewer holds the volumes of the first cases, one for each method; those of a case take no more room in
    the page than the volume of an evaluation. A case that cannot be drawn has a sentence instead; a case whose
    files are not known is left out.

    Args:
        cases: the cases to draw, in this order.
        files: case → its files.
        labels: names, values and colors of the labels; None if every value is a label.
        limits: how many cases are drawn, and their sizes.
    """
    pictures: dict[str, Markup] = {}
    payloads: list[VolumePayload] = []
    for one in cases:
        own = files.get(one.case)
        if own is None or not own.predictions or len(pictures) == limits.figures:
            continue
        try:
            views = _read_views(one, own, labels)
            figures = method_figures(views, one.focus, FigureOptions(max_bytes=limits.figure_bytes))
            volumes = _volumes(views, limits) if len(pictures) < limits.volumes else {}
        except (DataError, OSError, ValueError) as error:  # a picture is not worth the page
            named = filter(None, (own.image, own.reference, *own.predictions.values()))
            text = f"This case cannot be drawn: {without_folders(str(error), named)}"
            pictures[one.case] = paragraph(text, class_="note")
            continue
        payloads += volumes.values()
        pictures[one.case] = join([Markup(figures.to_html()), *_buttons(volumes), _rest(own, views)])
    note = "Lines: colored for each method and label, white for the reference."
    return with_viewer(pictures, payloads, note if pictures else "")


def case_headings(compared: ComparedMethods, cases: Sequence[NotableCase]) -> dict[str, Content]:
    """Return the line above the pictures of each case: its scores, and why it is shown."""
    means = {name: compared.case_means(name) for name in compared.methods}
    headings: dict[str, Content] = {}
    for one in cases:
        index = compared.cases.index(one.case)
        scores = join(
            (
                Markup("{} {}").format(name, number(values[index], compared.digits, unit=compared.unit))
                for name, values in means.items()
            ),
            ", ",
        )
        over = " (mean over labels)" if len(compared.labels) > 1 else ""
        words = Markup("{}{}: {}. {}.").format(compared.title, over, scores, "; ".join(one.reasons))
        headings[one.case] = Markup("<b>{}</b> {}").format(one.case, tag("span", words, class_="hint"))
    return headings


def _read_views(one: NotableCase, files: MethodFiles, labels: LabelSchema | None) -> dict[str, CaseView]:
    shown = dict(list(files.predictions.items())[:_MOST_METHODS])
    return read_method_views(one.case, shown, image=files.image, reference=files.reference, labels=labels)


def _volumes(views: Mapping[str, CaseView], limits: DrawingLimits) -> dict[str, VolumePayload]:
    """Pack the volume of each method, which divide the room of one case; nothing for pictures."""
    limit = limits.volume_bytes // len(views)
    packed = {
        method: volume_payload(replace(view, name=f"{view.name}, {method}"), limit)
        for method, view in views.items()
    }
    return {method: payload for method, payload in packed.items() if payload is not None}


def _buttons(volumes: Mapping[str, VolumePayload]) -> list[Markup]:
    return [
        tag("button", f"Open {method} in the viewer", type="button", data_show_volume=one.name, class_="more")
        for method, one in volumes.items()
    ]


def _rest(files: MethodFiles, views: Mapping[str, CaseView]) -> Content:
    """Return how many methods are not drawn."""
    count = len(files.predictions) - len(views)
    return paragraph(f"{count} more methods are not drawn.", class_="note") if count else ""


def _better_by_most(compared: ComparedMethods, better: str, worse: str, most: int) -> list[NotableCase]:
    """Return the cases in which a method is better than another by most."""
    sign = 1 if compared.higher else -1
    pairs = zip(compared.case_means(better), compared.case_means(worse), compared.cases, strict=True)
    gains = sorted(((sign * (a - b), case) for a, b, case in pairs if not math.isnan(a - b)), reverse=True)
    reason = f"{better} is better by most"
    return [NotableCase(case, (reason,)) for gain, case in gains[:most] if gain > _TIE]


def _differ_most(compared: ComparedMethods, most: int) -> list[NotableCase]:
    """Return the cases in which the best and the worst score of the methods are farthest apart."""
    by_case = zip(*(compared.case_means(name) for name in compared.methods), strict=True)
    ranges: list[tuple[float, str]] = []
    for scores, case in zip(by_case, compared.cases, strict=True):
        defined = [one for one in scores if not math.isnan(one)]
        if defined and max(defined) - min(defined) > _TIE:
            ranges.append((max(defined) - min(defined), case))
    ranges.sort(key=lambda one: -one[0])
    return [NotableCase(case, ("the methods differ most",)) for _, case in ranges[:most]]


def _worst(compared: ComparedMethods, best: str, most: int) -> list[NotableCase]:
    """Return the cases with the worst scores of the best method."""
    sign = 1 if compared.higher else -1
    scores = zip(compared.case_means(best), compared.cases, strict=True)
    ranked = sorted((sign * score, case) for score, case in scores if not math.isnan(score))
    return [NotableCase(case, (f"{best} is worst here",), best) for _, case in ranked[:most]]


def _with_misses(compared: ComparedMethods, one: NotableCase) -> NotableCase:
    """Return a case with every structure that a method missed in it among its reasons."""
    missed = [
        f"{method} misses {label}"
        for method in compared.methods
        for case, label in (compared.missed(method) or (0, []))[1]
        if case == one.case
    ]
    return replace(one, reasons=tuple(dict.fromkeys((*one.reasons, *missed))))


def _missed(compared: ComparedMethods, most: int) -> list[NotableCase]:
    """Return cases in which a method missed a structure: of every label and method in turn."""
    by_label: dict[tuple[str, str], list[str]] = {}
    for method in compared.methods:
        _, missed = compared.missed(method) or (0, [])
        for case, label in missed:
            by_label.setdefault((label, method), []).append(case)
    rounds = max(map(len, by_label.values()), default=0)
    found = [
        NotableCase(cases[turn], (f"{method} misses {label}",), method)
        for turn in range(rounds)
        for (label, method), cases in by_label.items()
        if turn < len(cases)
    ]
    return found[:most]
