"""Tables of a report: semantic HTML that a script makes sortable and filterable."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup, escape

from medseg.report.html import Content, anchor, breakable, join, tag

Order = Literal["ascending", "descending"]
_LONGEST_ON_ONE_LINE = 16
"""Letters of a row heading that small screens do not break, too."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: heading.
        kind: ``text``; ``number``, which is aligned right and sorted by value; or ``choice``, text with few
            different values, by which rows can be filtered.
        help: explanation of the heading.
    """

    title: str
    kind: Literal["text", "number", "choice"] = "text"
    help: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: what the table shows; also the name of its scrolling region.
        columns: the columns; the first one holds the row headings.
        rows: cells as text or HTML. The class of a cell's row is set by ``marks``.
        order: index of the column by which the rows are sorted, and how; None if by none.
        controls: whether the rows can be searched and filtered.
        marks: class of each row; empty for none.
        page: rows shown at first; a button shows the others.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Content]]
    order: tuple[int, Order] | None = None
    controls: bool = False
    marks: Sequence[str] = ()
    page: int = 25

    def html(self) -> Markup:
        """Return the table as HTML; without scripts it is complete, in the given order."""
        table = tag(
            "table",
            tag("caption", self.caption),
            tag("thead", tag("tr", join(self._heading(i) for i in range(len(self.columns))))),
            tag("tbody", join((self._row(i) for i in range(len(self.rows))), "\n")),
            data_page=self.page if self.controls else None,
        )
        scroll = tag("div", table, class_="scroll", tabindex="0", role="region", aria_label=self.caption)
        return tag("div", self._controls() if self.controls else "", scroll, class_="table")

    def _heading(self, index: int) -> Markup:
        column = self.columns[index]
        sorted_ = self.order[1] if self.order and self.order[0] == index else None
        button = tag("button", column.title, type="button", title=column.help or None)
        return tag("th", button, scope="col", aria_sort=sorted_, class_=_class(column))

    def _row(self, index: int) -> Markup:
        first, *rest = self.rows[index]
        is_long = len(plain(first)) > _LONGEST_ON_ONE_LINE
        cells = [
            tag("th", breakable(first) if is_long else first, scope="row", class_="long" if is_long else None)
        ]
        for column, cell in zip(self.columns[1:], rest, strict=True):
            start = Markup('<td class="num">') if column.kind == "number" else Markup("<td>")
            cells.append(start + escape(cell) + Markup("</td>"))
        mark = self.marks[index] if self.marks else None
        return tag("tr", join(cells), class_=mark or None)

    def _controls(self) -> Markup:
        """Return the search field and the filters; a script shows them."""
        search = tag(
            "label",
            "Search ",
            Markup('<input type="search" autocomplete="off" spellcheck="false">'),
        )
        filters = join(self._filter(i) for i, column in enumerate(self.columns) if column.kind == "choice")
        count = tag("output", class_="count")
        return tag(
            "div", search, filters, count, class_="controls", hidden=True, role="group",
            aria_label=f"Filter: {self.caption}",
        )  # fmt: skip

    def _filter(self, index: int) -> Markup:
        values = list(dict.fromkeys(plain(row[index]) for row in self.rows))
        options = join([tag("option", "all", value=""), *(tag("option", one, value=one) for one in values)])
        select = tag("select", options, data_column=index, id=anchor("filter", f"{self.caption}-{index}"))
        return tag("label", f"{self.columns[index].title} ", select)


def plain(cell: Content) -> str:
    """Return the text of a cell without markup.

    Example:
        >>> plain(Markup("<b>a</b> &amp; b"))
        'a & b'
    """
    return Markup(re.sub(r"<[^>]*>", "", str(cell))).unescape().strip() if isinstance(cell, Markup) else cell


def _class(column: Column) -> str | None:
    return "num" if column.kind == "number" else None
