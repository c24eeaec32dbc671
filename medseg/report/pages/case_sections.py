"""One section per case: its scores and pictures, the worst case first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from markupsafe import Markup

from medseg.report.html import Content, anchor, folded, join, number, paragraph, tag
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
        policy: what they need of the content security policy: directive → sources.
        note: sentence above the sections.
        viewer: viewer of volumes, below the sections.
    """

    pictures: Mapping[str, Markup] = field(default_factory=dict[str, Markup])
    styles: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()
    policy: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    note: str = ""
    viewer: Content = ""

    def link(self, case: str) -> Content:
        """Return the name of a case, as a link if it has a section."""
        return tag("a", case, href=f"#{anchor('case', case)}") if case in self.pictures else case

    def html(self, cases: ScoredCases) -> Markup:
        """Return the sections; all but the first ones are folded."""
        by_case: dict[str, list[ScoredCase]] = {case: [] for case in self.pictures}
        for one in cases.worst_first:
            if one.case in by_case:
                by_case[one.case].append(one)
        sections = [
            tag(
                "article",
                folded(_heading(case, by_case[case]), picture, open_=index < _MOST_OPEN),
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
        for directive, sources in self.policy.items():
            page.allow(directive, *sources)


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
