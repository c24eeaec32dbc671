"""Mark short literals, such as names of options, with the class ``short``: they do not break at hyphens."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

_LONGEST = 18
"""Characters that fit into a column of a table on a narrow screen."""


def mark_short_literals(_app: Sphinx, doctree: nodes.document) -> None:
    """Add the class to the literals of a page."""
    for literal in doctree.findall(nodes.literal):
        if len(literal.astext()) <= _LONGEST:
            literal["classes"].append("short")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("doctree-read", mark_short_literals)
    return {"parallel_read_safe": True}
