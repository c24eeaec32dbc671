"""One section per case: its scores and pictures, the worst case first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from medseg.data.labels.schema import LabelSchema
from medseg.errors import DataError
from medseg.report.folder_names import without_folders
from medseg.report.html import Content, anchor, folded, join, loaded_on_demand, number, paragraph, tag
from medseg.report.media.case_view import read_case_view
from medseg.report.media.figures.case import FigureOptions, case_figures
from medseg.report.media.payload import VolumePayload, volume_payload
from medseg.report.media.viewer import deferred_scripts, viewer_html, viewer_scripts, viewer_style
from medseg.report.page import Page
from medseg.report.pages.scored_cases import ScoredCase, ScoredCases

_MOST_OPEN = 3
_MOST_LABELS = 8


@dataclass(frozen=True)
class CaseSections:
    """Sections of cases.

    Attributes:
        pictures: case → its pictures, the first case first.
        styles: style sheets that the pictures need.
        scripts: scripts that they need.
        deferred: name → script that starts on demand.
        policy: what they need of the content security policy: directive → sources.
        note: sentence above the sections.
        viewer: viewer of volumes, below the sections.
    """

    pictures: Mapping[str, Markup] = field(default_factory=dict[str, Markup])
    styles: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()
    deferred: Mapping[str, str] = field(default_factory=dict[str, str])
    policy: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    note: str = ""
    viewer: Content = ""

    def link(self, case: str) -> Content:
        """Return the name of a case, as a link if it has a section."""
        return tag("a", case, href=f"#{anchor('case', case)}") if case in self.pictures else case

    def html(self, cases: ScoredCases) -> Markup:
        """Return the sections with the scores of an evaluation; all but the first ones are folded."""
        by_case: dict[str, list[ScoredCase]] = {case: [] for case in self.pictures}
        for one in cases.worst_first:
            if one.case in by_case:
                by_case[one.case].append(one)
        return self.with_headings({case: _heading(case, scores) for case, scores in by_case.items()})

    def with_headings(self, headings: Mapping[str, Content]) -> Markup:
        """Return the sections; all but the first ones are folded, and their pictures are loaded when they open.

        Args:
            headings: case → the line above its pictures.
        """
        sections = [
            tag(
                "article",
                folded(
                    headings[case],
                    picture if index < _MOST_OPEN else loaded_on_demand(picture),
                    open_=index < _MOST_OPEN,
                ),
                class_="case",
                id=anchor("case", case),
            )
            for index, (case, picture) in enumerate(self.pictures.items())
        ]
        note = paragraph(self.note, class_="note") if self.note and sections else ""
        return join([note, *sections, join([tag("h3", "Viewer"), self.viewer]) if self.viewer else ""])

    def equip(self, page: Page) -> None:
        """Add to a page what the pictures need."""
        if not self.pictures:
            return
        for style in self.styles:
            page.add_style(style)
        for script in self.scripts:
            page.add_script(script)
        for name, script in self.deferred.items():
            page.add_deferred_script(name, script)
        for directive, sources in self.policy.items():
            page.allow(directive, *sources)


@dataclass(frozen=True)
class CaseFiles:
    """The files of a case that is drawn.

    Attributes:
        image: its image; None if unknown, label maps are then drawn on black.
        reference: its reference label map.
        prediction: its predicted label map.
    """

    image: Path | None = None
    reference: Path | None = None
    prediction: Path | None = None


@dataclass(frozen=True)
class DrawingLimits:
    """How much of a page is pictures.

    Attributes:
        figures: number of cases with figures.
        volumes: number of volumes in the viewer.
        figure_bytes: limit of the figures of a case.
        volume_bytes: limit of a volume.
    """

    figures: int = 16
    volumes: int = 4
    figure_bytes: int = 250_000
    volume_bytes: int = 1_500_000


DEFAULT_LIMITS = DrawingLimits()


def draw_case_sections(
    files: Mapping[str, CaseFiles],
    labels: LabelSchema | None = None,
    limits: DrawingLimits = DEFAULT_LIMITS,
    missing: Mapping[str, str] | None = None,
) -> CaseSections:
    """Draw the sections of cases: figures of the first ones, and a viewer of the first volumes.

    A case that cannot be drawn has a sentence instead, also one without a prediction.

    Args:
        files: case → its files, the most interesting case first.
        labels: names, values and colors of the labels; None if every value is a label.
        limits: how many cases are drawn, and their sizes; as many are listed without a picture.
        missing: case → why it was never predicted.
    """
    missing = missing or {}
    shown = [case for case in files if case not in missing][: limits.figures]
    shown += [case for case in files if case in missing][: limits.figures]
    pictures: dict[str, Markup] = {}
    payloads: list[VolumePayload] = []
    for case, own in files.items():
        if case not in shown:
            continue
        if case in missing:
            pictures[case] = paragraph(f"There is no prediction to draw: {missing[case]}.", class_="note")
            continue
        try:
            view = read_case_view(
                case, image=own.image, reference=own.reference, prediction=own.prediction, labels=labels
            )
            figures = Markup(case_figures(view, FigureOptions(max_bytes=limits.figure_bytes)).to_html())
            payload = volume_payload(view, limits.volume_bytes) if len(payloads) < limits.volumes else None
        except (DataError, OSError, ValueError) as error:  # a picture is not worth the page
            reason = without_folders(str(error), filter(None, (own.image, own.reference, own.prediction)))
            pictures[case] = paragraph(f"This case cannot be drawn: {reason}", class_="note")
            continue
        if payload is not None:
            payloads.append(payload)
            figures += tag("button", "Open in the viewer", type="button", data_show_volume=case, class_="more")
        pictures[case] = figures
    return with_viewer(pictures, payloads)


def with_viewer(
    pictures: Mapping[str, Markup], payloads: Sequence[VolumePayload], note: str = ""
) -> CaseSections:
    """Return sections with a viewer of volumes.

    Args:
        pictures: case → its pictures.
        payloads: the volumes; without any, there is no viewer.
        note: sentence above the sections.
    """
    scripts = tuple(viewer_scripts()) if payloads else ()
    deferred = deferred_scripts() if payloads else {}
    viewer = Markup(viewer_html(payloads))
    return CaseSections(pictures, (viewer_style(),), scripts, deferred, note=note, viewer=viewer)


def _heading(case: str, scores: list[ScoredCase]) -> Markup:
    """Return the name of a case and its scores, the worst first."""
    shown = [
        Markup("{} {}{}").format(
            one.name,
            number(one.dice),
            f" ({one.finding})" if one.finding not in ("scored", "absent in both") else "",
        )
        for one in scores[:_MOST_LABELS]
    ]
    more = (
        Markup(", and {} more").format(number(len(scores) - _MOST_LABELS)) if len(scores) > _MOST_LABELS else ""
    )
    text = tag("span", "Dice: " if shown else "", join(shown, ", "), more, class_="hint")
    return Markup("<b>{}</b> {}").format(case, text)
