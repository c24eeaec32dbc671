"""Render shapes such as (B, C, *S) in docstrings as literals; reStructuredText reads ``*`` as emphasis."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

_SHAPE = re.compile(r"(?<![`\w])\([^()`]*\*\w[^()`]*\)(?!`)")


def mark_shapes(_app: Sphinx, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Put double backquotes around the shapes in a docstring's lines, in place."""
    lines[:] = [_SHAPE.sub(lambda found: f"``{found.group(0)}``", line) for line in lines]


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", mark_shapes, priority=100)
    return {"parallel_read_safe": True}
